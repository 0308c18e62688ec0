-- The events of jobs, which wake waiting requests.

-- About as many events as this are kept, whole nodes of the stream at a time.
local EVENTS_KEPT = '100000'

local function emit(event, ...)
  add('XADD', key('events'), 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', event, ...)
end

local function emit_change(event, job, status, revision)
  local events, reply = key('events'), nil
  if job.slate_id then
    reply = run_command('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', event, 'job_id', job.id, 'status', status,
      'revision', revision, 'queue', job.queue, 'created', job.created, 'slate_id', job.slate_id)
  else
    reply = run_command('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', event, 'job_id', job.id, 'status', status,
      'revision', revision, 'queue', job.queue, 'created', job.created)
  end
  check_added(reply, events)
end
