// A service's life through Google's own library: deployment grpc|rest. What it prints is ../../deployment.txt.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"strings"

	run "cloud.google.com/go/run/apiv2"
	"cloud.google.com/go/run/apiv2/runpb"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

var (
	ctx       = context.Background()
	parent    = "projects/" + os.Getenv("GOOGLE_CLOUD_PROJECT") + "/locations/us-central1"
	name      = parent + "/services/tide"
	services  *run.ServicesClient
	revisions *run.RevisionsClient
)

func main() {
	if os.Args[1] == "rest" {
		services, revisions = must(run.NewServicesRESTClient(ctx)), must(run.NewRevisionsRESTClient(ctx))
	} else {
		services, revisions = must(run.NewServicesClient(ctx)), must(run.NewRevisionsClient(ctx))
	}
	made := must(create())
	limits := fmt.Sprintf("concurrency %d, %d s", made.Template.MaxInstanceRequestConcurrency, made.Template.Timeout.Seconds)
	state := strings.TrimPrefix(made.TerminalCondition.State.String(), "CONDITION_")
	fmt.Printf("created: %s, %s, %s, %d revision\n", path.Base(made.Name), limits, state, count())
	_, err := create()
	refused(err, codes.AlreadyExists, http.StatusConflict)
	fmt.Println("again: already exists")

	first := path.Base(made.LatestReadyRevision)
	made.Template = template(&runpb.EnvVar{Name: "A", Values: &runpb.EnvVar_Value{Value: "1"}})
	made = must(update(made))
	second := path.Base(made.LatestReadyRevision)
	fmt.Printf("updated: %d revisions\n", count())

	made.Traffic = []*runpb.TrafficTarget{share(first, 75, ""), share(second, 25, "canary")}
	made = must(update(made))
	shares := map[string]*runpb.TrafficTargetStatus{}
	for _, status := range made.TrafficStatuses {
		shares[status.Revision] = status
	}
	fmt.Printf("split: %d to the first, %d to the second as %s\n", shares[first].Percent, shares[second].Percent, shares[second].Tag)
	made.Traffic = []*runpb.TrafficTarget{share(first, 60, "")}
	_, err = update(made)
	refused(err, codes.InvalidArgument, http.StatusBadRequest)
	fmt.Println("without a whole: refused")

	for service, err := range services.ListServices(ctx, &runpb.ListServicesRequest{Parent: parent}).All() {
		check(err)
		fmt.Println("listed:", path.Base(service.Name))
	}
	deletion := must(services.DeleteService(ctx, &runpb.DeleteServiceRequest{Name: name}))
	fmt.Println("deleted:", path.Base(must(deletion.Wait(ctx)).Name))
	_, err = services.GetService(ctx, &runpb.GetServiceRequest{Name: name})
	refused(err, codes.NotFound, http.StatusNotFound)
	fmt.Println("asked again: not found")
}

func template(variables ...*runpb.EnvVar) *runpb.RevisionTemplate {
	return &runpb.RevisionTemplate{
		Containers:                    []*runpb.Container{{Image: "us-docker.pkg.dev/cloudrun/container/hello", Env: variables}},
		MaxInstanceRequestConcurrency: 10,
		Timeout:                       durationpb.New(30e9),
	}
}

func share(revision string, percent int32, tag string) *runpb.TrafficTarget {
	kind := runpb.TrafficTargetAllocationType_TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
	return &runpb.TrafficTarget{Type: kind, Revision: revision, Percent: percent, Tag: tag}
}

func create() (*runpb.Service, error) {
	request := &runpb.CreateServiceRequest{Parent: parent, ServiceId: "tide", Service: &runpb.Service{Template: template()}}
	operation, err := services.CreateService(ctx, request)
	if err != nil {
		return nil, err
	}
	return operation.Wait(ctx)
}

func update(service *runpb.Service) (*runpb.Service, error) {
	operation, err := services.UpdateService(ctx, &runpb.UpdateServiceRequest{Service: service})
	if err != nil {
		return nil, err
	}
	return operation.Wait(ctx)
}

func count() int {
	listed := 0
	all := revisions.ListRevisions(ctx, &runpb.ListRevisionsRequest{Parent: name})
	for {
		if _, err := all.Next(); err == iterator.Done {
			return listed
		} else {
			check(err)
		}
		listed++
	}
}

// refused insists on a refusal with this code; over REST the library knows HTTP's only.
func refused(err error, grpc codes.Code, rest int) {
	var known *apierror.APIError
	if !errors.As(err, &known) || (known.GRPCStatus().Code() != grpc && known.HTTPCode() != rest) {
		check(fmt.Errorf("not refused as it should: %w", err))
	}
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
