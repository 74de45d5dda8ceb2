import com.google.api.gax.rpc.ApiException;
import com.google.cloud.run.v2.Container;
import com.google.cloud.run.v2.EnvVar;
import com.google.cloud.run.v2.RevisionTemplate;
import com.google.cloud.run.v2.RevisionsClient;
import com.google.cloud.run.v2.RevisionsSettings;
import com.google.cloud.run.v2.Service;
import com.google.cloud.run.v2.ServicesClient;
import com.google.cloud.run.v2.ServicesSettings;
import com.google.cloud.run.v2.TrafficTarget;
import com.google.cloud.run.v2.TrafficTargetAllocationType;
import com.google.cloud.run.v2.TrafficTargetStatus;
import com.google.protobuf.Duration;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;

/** A service's life through Google's own library: Deployment grpc|rest. What it prints is ../deployment.txt. */
public final class Deployment {
  private static final String PARENT =
      "projects/" + System.getenv("GOOGLE_CLOUD_PROJECT") + "/locations/us-central1";
  private static final String NAME = PARENT + "/services/tide";

  /** A call that may be refused. */
  private interface Call {
    void run() throws Exception;
  }

  public static void main(String[] args) throws Exception {
    boolean rest = args[0].equals("rest");
    try (ServicesClient services = rest
            ? ServicesClient.create(ServicesSettings.newHttpJsonBuilder().build())
            : ServicesClient.create();
        RevisionsClient revisions = rest
            ? RevisionsClient.create(RevisionsSettings.newHttpJsonBuilder().build())
            : RevisionsClient.create()) {
      live(services, revisions);
    }
  }

  private static void live(ServicesClient services, RevisionsClient revisions) throws Exception {
    Service wanted = Service.newBuilder().setTemplate(template()).build();
    Service made = services.createServiceAsync(PARENT, wanted, "tide").get();
    String limits = String.format(
        "concurrency %d, %d s",
        made.getTemplate().getMaxInstanceRequestConcurrency(), made.getTemplate().getTimeout().getSeconds());
    String state = made.getTerminalCondition().getState().name().replace("CONDITION_", "");
    System.out.printf("created: %s, %s, %s, %d revision%n", last(made.getName()), limits, state, count(revisions));
    refused(() -> services.createServiceAsync(PARENT, wanted, "tide").get(), "already exists");
    System.out.println("again: already exists");

    String first = last(made.getLatestReadyRevision());
    EnvVar variable = EnvVar.newBuilder().setName("A").setValue("1").build();
    made = services.updateServiceAsync(made.toBuilder().setTemplate(template(variable)).build()).get();
    String second = last(made.getLatestReadyRevision());
    System.out.printf("updated: %d revisions%n", count(revisions));

    made = services.updateServiceAsync(
        made.toBuilder().clearTraffic().addTraffic(share(first, 75, "")).addTraffic(share(second, 25, "canary")).build())
        .get();
    Map<String, TrafficTargetStatus> shares = made.getTrafficStatusesList().stream()
        .collect(Collectors.toMap(TrafficTargetStatus::getRevision, status -> status));
    System.out.printf(
        "split: %d to the first, %d to the second as %s%n",
        shares.get(first).getPercent(), shares.get(second).getPercent(), shares.get(second).getTag());
    Service uneven = made.toBuilder().clearTraffic().addTraffic(share(first, 60, "")).build();
    refused(() -> services.updateServiceAsync(uneven).get(), "100");
    System.out.println("without a whole: refused");

    services.listServices(PARENT).iterateAll().forEach(service -> System.out.println("listed: " + last(service.getName())));
    System.out.println("deleted: " + last(services.deleteServiceAsync(NAME).get().getName()));
    refused(() -> services.getService(NAME), "does not exist");
    System.out.println("asked again: not found");
  }

  private static RevisionTemplate template(EnvVar... variables) {
    Container.Builder container = Container.newBuilder().setImage("us-docker.pkg.dev/cloudrun/container/hello");
    for (EnvVar variable : variables) {
      container.addEnv(variable);
    }
    return RevisionTemplate.newBuilder()
        .addContainers(container)
        .setMaxInstanceRequestConcurrency(10)
        .setTimeout(Duration.newBuilder().setSeconds(30))
        .build();
  }

  private static TrafficTarget share(String revision, int percent, String tag) {
    return TrafficTarget.newBuilder()
        .setType(TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION)
        .setRevision(revision)
        .setPercent(percent)
        .setTag(tag)
        .build();
  }

  private static long count(RevisionsClient revisions) {
    return StreamSupport.stream(revisions.listRevisions(NAME).iterateAll().spliterator(), false).count();
  }

  /** Insists on a refusal in these words; the codes of the two transports differ. */
  private static void refused(Call call, String words) throws Exception {
    try {
      call.run();
    } catch (ExecutionException | ApiException error) {
      Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
      if (cause instanceof ApiException && cause.getMessage().contains(words)) {
        return;
      }
      throw error;
    }
    throw new AssertionError("it was not refused");
  }

  private static String last(String resource) {
    return resource.substring(resource.lastIndexOf('/') + 1);
  }
}
