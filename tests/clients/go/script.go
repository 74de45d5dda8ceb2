// The script of ../calls.json with Google's Go libraries and no option: script grpc|rest TABLE CALLER.
//
// The library of IAM's administration speaks gRPC only, so its calls go over gRPC in both runs.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"

	"cloud.google.com/go/iam"
	admin "cloud.google.com/go/iam/admin/apiv1"
	"cloud.google.com/go/iam/apiv1/iampb"
	credentials "cloud.google.com/go/iam/credentials/apiv1"
	resourcemanager "cloud.google.com/go/resourcemanager/apiv3"
	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/api/googleapi"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

type table struct {
	Values map[string]string
	Calls  []struct {
		Call    string
		Request json.RawMessage
		Show    []string
		Keep    map[string]string
	}
}

var ctx = context.Background()

func main() {
	text := must(os.ReadFile(os.Args[2]))
	var script table
	check(json.Unmarshal(text, &script))
	values := script.Values
	values["project"], values["caller"] = os.Getenv("GOOGLE_CLOUD_PROJECT"), os.Args[3]
	clients := connect(os.Args[1])
	for index, entry := range script.Calls {
		service, method, _ := strings.Cut(entry.Call, ".")
		answer, err := call(clients[service], method, fill(string(entry.Request), values))
		outcome := failure(err)
		if err == nil {
			for name, path := range entry.Keep {
				values[name] = at(answer, path).(string)
			}
			shown := map[string]any{}
			for _, path := range entry.Show {
				shown[path] = at(answer, path)
			}
			outcome = "OK | " + line(shown)
		}
		fmt.Printf("%02d | %s | %s\n", index+1, entry.Call, outcome)
	}
}

func connect(transport string) map[string]any {
	clients := map[string]any{"accounts": must(admin.NewIamClient(ctx))}
	if transport == "rest" {
		clients["secrets"] = must(secretmanager.NewRESTClient(ctx))
		clients["credentials"] = must(credentials.NewIamCredentialsRESTClient(ctx))
		clients["projects"] = must(resourcemanager.NewProjectsRESTClient(ctx))
	} else {
		clients["secrets"] = must(secretmanager.NewClient(ctx))
		clients["credentials"] = must(credentials.NewIamCredentialsClient(ctx))
		clients["projects"] = must(resourcemanager.NewProjectsClient(ctx))
	}
	return clients
}

// call makes one call, and gives its answer in protobuf's JSON form.
func call(client any, method, request string) (map[string]any, error) {
	function := reflect.ValueOf(client).MethodByName(method)
	results := function.Call([]reflect.Value{reflect.ValueOf(ctx), argument(function.Type().In(1), request)})
	if err, failed := results[len(results)-1].Interface().(error); failed {
		return nil, err
	}
	answer := map[string]any{}
	if len(results) == 2 {
		check(json.Unmarshal(must(protojson.Marshal(message(results[0].Interface()))), &answer))
	}
	return answer, nil
}

func argument(kind reflect.Type, request string) reflect.Value {
	// Written by hand in the library: not a message of protobuf.
	if kind == reflect.TypeFor[*admin.SetIamPolicyRequest]() {
		policy := &iampb.SetIamPolicyRequest{}
		check(protojson.Unmarshal([]byte(request), policy))
		wrapped := &admin.SetIamPolicyRequest{Resource: policy.Resource, Policy: &iam.Policy{InternalProto: policy.Policy}}
		return reflect.ValueOf(wrapped)
	}
	value := reflect.New(kind.Elem())
	check(protojson.Unmarshal([]byte(request), value.Interface().(proto.Message)))
	return value
}

func message(answer any) proto.Message {
	if policy, wrapped := answer.(*iam.Policy); wrapped {
		return policy.InternalProto
	}
	return answer.(proto.Message)
}

// failure is what an error says. Over REST the library shows a status of its own making, so the answer is read.
func failure(err error) string {
	if err == nil {
		return ""
	}
	var rest *googleapi.Error
	if errors.As(err, &rest) {
		var answer struct {
			Error struct {
				Status, Message string
				Details         []any
			}
		}
		check(json.Unmarshal([]byte(rest.Body), &answer))
		return said(answer.Error.Status, answer.Error.Message, answer.Error.Details)
	}
	known, isKnown := apierror.FromError(err)
	if !isKnown {
		check(err)
	}
	status := known.GRPCStatus().Proto()
	details := []any{}
	for _, packed := range status.Details {
		var detail any
		check(json.Unmarshal(must(protojson.Marshal(packed)), &detail))
		details = append(details, detail)
	}
	return said(code.Code(status.Code).String(), status.Message, details)
}

func said(status, message string, details []any) string {
	if details == nil {
		details = []any{}
	}
	return status + " | " + message + " | " + line(details)
}

var name = regexp.MustCompile(`\$\{(\w+)\}`)

// fill puts values in the place of ${names}; values may hold names too.
func fill(text string, values map[string]string) string {
	for strings.Contains(text, "${") {
		text = name.ReplaceAllStringFunc(text, func(found string) string { return values[found[2:len(found)-1]] })
	}
	return text
}

// at is a field of an answer; nil when it is absent or empty.
func at(answer map[string]any, path string) any {
	var value any = answer
	for _, name := range strings.Split(path, ".") {
		inner, _ := value.(map[string]any)
		value = inner[name]
	}
	return value
}

func line(value any) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	check(encoder.Encode(value))
	return strings.TrimSpace(text.String())
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
