"""The events of Redis, for the requests of one process that wait for something.

                     Redis: the event streams of the partitions that subscriptions need
                            |
    sources                 a connection that waits at one Redis, or polls of the nodes of a cluster
                            |
    reader.EventReader      continues after outages, reports gaps
                            |
    hub.EventHub            runs the reader while there are subscriptions; has the latest events
        |                   |                   |
        | all of a job      | one of a queue    | all, by cursor
        |                   |                   |
    job_watcher             claim_waiter        stream
    reads the job again     claims again        filters; older events come from Redis
        |                   |                   |
    GET /v1/jobs/{id}       POST /v1/claims     GET /v1/events
      ?wait=, /events

A position (`positions.py`) has a place in each stream; its text is the id of an event in `GET /v1/events`.

A gap, the shutdown of the process and a client that disconnects wake a subscription too.
"""
