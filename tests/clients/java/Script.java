import com.google.api.client.http.HttpResponseException;
import com.google.api.gax.core.BackgroundResource;
import com.google.api.gax.rpc.ApiException;
import com.google.api.gax.rpc.UnaryCallable;
import com.google.cloud.iam.admin.v1.IAMClient;
import com.google.cloud.iam.credentials.v1.IamCredentialsClient;
import com.google.cloud.iam.credentials.v1.IamCredentialsSettings;
import com.google.cloud.resourcemanager.v3.ProjectsClient;
import com.google.cloud.resourcemanager.v3.ProjectsSettings;
import com.google.cloud.secretmanager.v1.SecretManagerServiceClient;
import com.google.cloud.secretmanager.v1.SecretManagerServiceSettings;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Help;
import com.google.rpc.LocalizedMessage;
import com.google.rpc.PreconditionFailure;
import com.google.rpc.ResourceInfo;
import com.google.rpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The script of ../calls.json with Google's Java libraries and no option: Script grpc|rest TABLE CALLER.
 *
 * <p>The library of IAM's administration speaks gRPC only, so its calls go over gRPC in both runs.
 */
public final class Script {
  private static final Gson GSON = new GsonBuilder().disableHtmlEscaping().serializeNulls().create();
  private static final Pattern NAME = Pattern.compile("\\$\\{(\\w+)\\}");
  private static final JsonFormat.Printer PRINTER =
      JsonFormat.printer()
          .omittingInsignificantWhitespace()
          .usingTypeRegistry(
              JsonFormat.TypeRegistry.newBuilder()
                  .add(ErrorInfo.getDescriptor())
                  .add(BadRequest.getDescriptor())
                  .add(Help.getDescriptor())
                  .add(LocalizedMessage.getDescriptor())
                  .add(PreconditionFailure.getDescriptor())
                  .add(ResourceInfo.getDescriptor())
                  .build());

  public static void main(String[] args) throws Exception {
    JsonObject table = JsonParser.parseString(Files.readString(Path.of(args[1]))).getAsJsonObject();
    Map<String, String> values = new HashMap<>();
    values.put("project", System.getenv("GOOGLE_CLOUD_PROJECT"));
    values.put("caller", args[2]);
    table.getAsJsonObject("values").entrySet().forEach(e -> values.put(e.getKey(), e.getValue().getAsString()));
    Map<String, BackgroundResource> clients = connect(args[0].equals("rest"));
    int number = 0;
    for (JsonElement element : table.getAsJsonArray("calls")) {
      JsonObject entry = element.getAsJsonObject();
      String what = entry.get("call").getAsString();
      System.out.printf("%02d | %s | %s%n", ++number, what, outcome(clients, what, entry, values));
    }
    clients.values().forEach(BackgroundResource::shutdownNow);
  }

  private static Map<String, BackgroundResource> connect(boolean rest) throws Exception {
    return Map.of(
        "accounts", IAMClient.create(),
        "secrets", rest
            ? SecretManagerServiceClient.create(SecretManagerServiceSettings.newHttpJsonBuilder().build())
            : SecretManagerServiceClient.create(),
        "credentials", rest
            ? IamCredentialsClient.create(IamCredentialsSettings.newHttpJsonBuilder().build())
            : IamCredentialsClient.create(),
        "projects", rest
            ? ProjectsClient.create(ProjectsSettings.newHttpJsonBuilder().build())
            : ProjectsClient.create());
  }

  private static String outcome(
      Map<String, BackgroundResource> clients, String what, JsonObject entry, Map<String, String> values)
      throws Exception {
    JsonObject answer;
    try {
      String[] names = what.split("\\.");
      answer = call(clients.get(names[0]), names[1], fill(entry.get("request").toString(), values));
    } catch (ApiException error) {
      return failure(error);
    }
    if (entry.has("keep")) {
      entry.getAsJsonObject("keep").entrySet()
          .forEach(kept -> values.put(kept.getKey(), at(answer, kept.getValue().getAsString()).getAsString()));
    }
    JsonObject shown = new JsonObject();
    if (entry.has("show")) {
      entry.getAsJsonArray("show").forEach(path -> shown.add(path.getAsString(), at(answer, path.getAsString())));
    }
    return "OK | " + line(shown);
  }

  /** Makes one call, and gives its answer in protobuf's JSON form. */
  @SuppressWarnings("unchecked")
  private static JsonObject call(Object client, String method, String request) throws Exception {
    Method callable =
        client.getClass().getMethod(Character.toLowerCase(method.charAt(0)) + method.substring(1) + "Callable");
    Class<?> kind =
        (Class<?>) ((ParameterizedType) callable.getGenericReturnType()).getActualTypeArguments()[0];
    Message.Builder builder = (Message.Builder) kind.getMethod("newBuilder").invoke(null);
    JsonFormat.parser().merge(request, builder);
    UnaryCallable<Message, Message> unary = (UnaryCallable<Message, Message>) callable.invoke(client);
    return JsonParser.parseString(PRINTER.print(unary.call(builder.build()))).getAsJsonObject();
  }

  /** The library wraps what the transport threw: over gRPC a status, over REST the answer as text. */
  private static String failure(ApiException error) throws Exception {
    for (Throwable cause = error.getCause(); cause != null; cause = cause.getCause()) {
      if (cause instanceof StatusRuntimeException grpc) {
        Status status = StatusProto.fromThrowable(grpc);
        JsonArray details = new JsonArray();
        if (status != null) {
          for (Any detail : status.getDetailsList()) {
            details.add(JsonParser.parseString(PRINTER.print(detail)));
          }
        }
        return said(grpc.getStatus().getCode().name(), grpc.getStatus().getDescription(), details);
      }
      if (cause instanceof HttpResponseException rest) {
        JsonObject answer = JsonParser.parseString(rest.getContent()).getAsJsonObject().getAsJsonObject("error");
        JsonElement details = answer.get("details");
        return said(
            answer.get("status").getAsString(),
            answer.get("message").getAsString(),
            details == null ? new JsonArray() : details);
      }
    }
    throw error;
  }

  private static String said(String status, String message, JsonElement details) {
    return status + " | " + message + " | " + line(details);
  }

  /** A text with its ${names} filled in; values may hold names too. */
  private static String fill(String text, Map<String, String> values) {
    while (text.contains("${")) {
      text = NAME.matcher(text).replaceAll(name -> Matcher.quoteReplacement(values.get(name.group(1))));
    }
    return text;
  }

  /** A field of an answer; null when it is absent or empty. */
  private static JsonElement at(JsonObject answer, String path) {
    JsonElement value = answer;
    for (String name : path.split("\\.")) {
      value = value == null || !value.isJsonObject() ? null : value.getAsJsonObject().get(name);
    }
    return value == null ? JsonNull.INSTANCE : value;
  }

  private static String line(JsonElement value) {
    return GSON.toJson(sorted(value));
  }

  private static JsonElement sorted(JsonElement value) {
    if (value.isJsonArray()) {
      JsonArray inner = new JsonArray();
      value.getAsJsonArray().forEach(element -> inner.add(sorted(element)));
      return inner;
    }
    if (!value.isJsonObject()) {
      return value;
    }
    JsonObject inner = new JsonObject();
    new TreeMap<>(value.getAsJsonObject().asMap()).forEach((name, element) -> inner.add(name, sorted(element)));
    return inner;
  }
}
