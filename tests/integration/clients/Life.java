// A job's whole life through the client that openapi-generator makes for Java. The argument is the service's URL.
import java.util.List;
import java.util.Map;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.JobsApi;
import org.openapitools.client.api.OperationsApi;
import org.openapitools.client.api.WorkersApi;
import org.openapitools.client.model.*;

public class Life {
  private final JobsApi jobs;
  private final WorkersApi workers;
  private final OperationsApi operations;
  private final ApiClient client = new ApiClient();

  Life(String url) {
    client.updateBaseUri(url);
    jobs = new JobsApi(client);
    workers = new WorkersApi(client);
    operations = new OperationsApi(client);
  }

  public static void main(String[] arguments) throws Exception {
    Life life = new Life(arguments[0]);
    life.finish();
    life.work();
    life.configure();
    life.readProblem();
    life.readGrownAnswer();
    System.out.println("passed");
  }

  /** Create a job with an integer above 32 bits, and move it to its end. */
  void finish() throws ApiException {
    CreateJob create = new CreateJob().jobId("java-sunday").slateId("pinewood-400").scenarioCount(5_000_000_000L);
    Job job = jobs.createJob(create.inputParams(Map.of("seed", 42)), null);
    check(job.getStatus().equals("pending") && job.getScenarioCount() == 5_000_000_000L, "created", job);

    UpdateJob update = new UpdateJob().status(Status.RUNNING).progress(new ProgressInput().current(1L));
    job = jobs.updateJob("java-sunday", update, null, null, null);
    check(job.getStatus().equals("running") && job.getProgress().getCurrent() == 1, "running", job);

    JobList list = jobs.listJobs(Status.RUNNING, null, "pinewood-400", null, null, null, null, null, null, null);
    check(list.getItems().size() == 1, "listed", list);

    UpdateJob end = new UpdateJob().status(Status.COMPLETED).result(Map.of("best", 1.5));
    jobs.updateJob("java-sunday", end, null, null, null);
    Object result = jobs.getJobResult("java-sunday", null);
    check(result.equals(Map.of("best", 1.5)), "result", result);
    check(jobs.getJobHistory("java-sunday").getItems().size() == 3, "history", "");
    jobs.deleteJob("java-sunday", null, null);
  }

  /** Claim a job, release it without a failure, claim it again and complete it. */
  void work() throws ApiException {
    Job created = jobs.createJob(new CreateJob().queue("java").inputParams(1), null);
    ClaimJob request = new ClaimJob().queues(List.of("java")).worker("duke");
    Claim claim = workers.claimJob(request, null);
    check(claim.getJob().getJobId().equals(created.getJobId()), "claimed", claim);
    String token = claim.getLease().getToken();
    check(!workers.heartbeatJob(created.getJobId(), token, null).getCancelRequested(), "heartbeat", "");
    Job released = workers.releaseJob(created.getJobId(), null, token, null);
    check(released.getStatus().equals("pending") && released.getFailures() == 0, "released", released);

    token = workers.claimJob(request, null).getLease().getToken();
    Job done = jobs.updateJob(created.getJobId(), new UpdateJob().status(Status.COMPLETED), null, null, token);
    check(done.getStatus().equals("completed") && done.getAttempt() == 2, "completed", done);
    check(workers.claimJob(request, null) == null, "nothing to claim", "");
  }

  /** Set a setting of a queue, and keep it. */
  void configure() throws ApiException {
    Queue queue = operations.configureQueue("java", new ConfigureQueue().maxRunning(2));
    check(queue.getMaxRunning() == 2, "capped", queue);
    queue = operations.configureQueue("java", new ConfigureQueue().paused(true));
    check(queue.getMaxRunning() == 2 && queue.getPaused(), "paused", queue);
  }

  /** Read what an error answer says. */
  void readProblem() throws Exception {
    try {
      jobs.getJob("java-nobody", null, null, null);
      check(false, "not found", "");
    } catch (ApiException error) {
      Problem problem = client.getObjectMapper().readValue(error.getResponseBody(), Problem.class);
      check(error.getCode() == 404, "status", error);
      check(problem.getType().equals("urn:jobstate:problem:job-not-found"), "problem", problem);
    }
  }

  /** Read an answer of a later service, which has more fields. */
  void readGrownAnswer() throws Exception {
    String grown = "{\"current\": 1, \"rate\": 2.5}";
    check(client.getObjectMapper().readValue(grown, Progress.class).getCurrent() == 1, "grown", grown);
  }

  static void check(boolean holds, String what, Object found) {
    if (!holds) {
      System.err.println(what + ": " + found);
      System.exit(1);
    }
  }
}
