// A job's whole life through the client that openapi-generator makes for Go. The argument is the service's URL.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	jobstate "example.org/jobstate"
)

var background = context.Background()

func main() {
	configuration := jobstate.NewConfiguration()
	configuration.Servers = jobstate.ServerConfigurations{{URL: os.Args[1]}}
	client := jobstate.NewAPIClient(configuration)
	finish(client)
	work(client)
	configure(client)
	readProblem(client)
	readGrownAnswer()
	fmt.Println("passed")
}

// finish creates a job with an integer above 32 bits, and moves it to its end.
func finish(client *jobstate.APIClient) {
	create := jobstate.NewCreateJob(map[string]interface{}{"seed": 42, "none": nil})
	create.SetJobId("go-sunday")
	create.SetSlateId("pinewood-400")
	create.SetScenarioCount(5_000_000_000)
	job, response, err := client.JobsAPI.CreateJob(background).CreateJob(*create).Execute()
	must(err)
	check(response.StatusCode == 201 && job.Status == "pending" && job.GetScenarioCount() == 5_000_000_000, "created", job)

	update := jobstate.NewUpdateJob(jobstate.RUNNING)
	update.SetProgress(*jobstate.NewProgressInput(1))
	job, _, err = client.JobsAPI.UpdateJob(background, "go-sunday").UpdateJob(*update).Execute()
	must(err)
	check(job.Status == "running" && job.Progress.Current == 1, "running", job)

	list, _, err := client.JobsAPI.ListJobs(background).Status(jobstate.RUNNING).SlateId("pinewood-400").Execute()
	must(err)
	check(len(list.Items) == 1 && list.Items[0].JobId == "go-sunday", "listed", list)

	end := jobstate.NewUpdateJob(jobstate.COMPLETED)
	end.SetResult(map[string]interface{}{"best": 1.5})
	_, _, err = client.JobsAPI.UpdateJob(background, "go-sunday").UpdateJob(*end).Execute()
	must(err)
	result, _, err := client.JobsAPI.GetJobResult(background, "go-sunday").Execute()
	must(err)
	check(fmt.Sprint(result) == "map[best:1.5]", "result", result)
	history, _, err := client.JobsAPI.GetJobHistory(background, "go-sunday").Execute()
	must(err)
	check(len(history.Items) == 3, "history", history)
	_, err = client.JobsAPI.DeleteJob(background, "go-sunday").Execute()
	must(err)
}

// work claims a job, releases it without a failure, claims it again and completes it.
func work(client *jobstate.APIClient) {
	create := jobstate.NewCreateJob(1)
	create.SetQueue("go")
	_, _, err := client.JobsAPI.CreateJob(background).CreateJob(*create).Execute()
	must(err)
	request := *jobstate.NewClaimJob([]string{"go"}, "gopher")
	claim, _, err := client.WorkersAPI.ClaimJob(background).ClaimJob(request).Execute()
	must(err)
	id, token := claim.Job.JobId, claim.Lease.Token
	heartbeat, _, err := client.WorkersAPI.HeartbeatJob(background, id).LeaseToken(token).Execute()
	must(err)
	check(!heartbeat.CancelRequested, "heartbeat", heartbeat)
	released, _, err := client.WorkersAPI.ReleaseJob(background, id).LeaseToken(token).Execute()
	must(err)
	check(released.Status == "pending" && released.Failures == 0, "released", released)

	claim, _, err = client.WorkersAPI.ClaimJob(background).ClaimJob(request).Execute()
	must(err)
	end := jobstate.NewUpdateJob(jobstate.COMPLETED)
	done, _, err := client.JobsAPI.UpdateJob(background, id).LeaseToken(claim.Lease.Token).UpdateJob(*end).Execute()
	must(err)
	check(done.Status == "completed" && done.Attempt == 2, "completed", done)
	_, response, err := client.WorkersAPI.ClaimJob(background).ClaimJob(request).Execute()
	must(err)
	check(response.StatusCode == 204, "nothing to claim", response.Status)
}

// configure sets a setting of a queue, keeps it and clears it.
func configure(client *jobstate.APIClient) {
	cap := jobstate.NewConfigureQueue()
	cap.SetMaxRunning(2)
	queue, _, err := client.OperationsAPI.ConfigureQueue(background, "go").ConfigureQueue(*cap).Execute()
	must(err)
	check(queue.GetMaxRunning() == 2, "capped", queue)
	clear := jobstate.NewConfigureQueue()
	clear.SetMaxRunningNil()
	queue, _, err = client.OperationsAPI.ConfigureQueue(background, "go").ConfigureQueue(*clear).Execute()
	must(err)
	check(!queue.HasMaxRunning(), "cleared", queue)
}

// readProblem reads what an error answer says.
func readProblem(client *jobstate.APIClient) {
	_, response, err := client.JobsAPI.GetJob(background, "go-nobody").Execute()
	check(err != nil && response.StatusCode == http.StatusNotFound, "not found", err)
	problem, ok := err.(*jobstate.GenericOpenAPIError).Model().(jobstate.Problem)
	check(ok && problem.Type == "urn:jobstate:problem:job-not-found", "problem", err)
}

// readGrownAnswer reads an answer of a later service, which has more fields and another status.
func readGrownAnswer() {
	var progress jobstate.Progress
	must(json.Unmarshal([]byte(`{"current": 1, "rate": 2.5}`), &progress))
	check(progress.Current == 1, "grown", progress)
}

func must(err error) {
	if err != nil {
		detail := ""
		if problem, ok := err.(*jobstate.GenericOpenAPIError); ok {
			detail = string(problem.Body())
		}
		check(false, err.Error(), detail)
	}
}

func check(holds bool, what string, found interface{}) {
	if !holds {
		text, _ := json.Marshal(found)
		fmt.Fprintln(os.Stderr, what, string(text))
		os.Exit(1)
	}
}
