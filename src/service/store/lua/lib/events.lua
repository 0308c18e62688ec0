-- The events of jobs, which wake waiting requests.

-- About as many events as this are kept, whole nodes of the stream at a time.
local EVENTS_KEPT = '100000'

local function emit(event, ...)
  add('XADD', key('events'), 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', event, ...)
end

-- The event of a job with labels tells its tags, by which the filter of a stream finds it. The tag of a label begins with `l`.
local function emit_change(event, job, status, revision)
  local events, more, n = key('events'), {}, 0
  if job.slate_id then more[1], more[2], n = 'slate_id', job.slate_id, 2 end
  if (',' .. job.tags):find(',l', 1, true) then
    more[n + 1], more[n + 2] = 'tags', job.tags
  end
  check_added(run_command('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', event, 'job_id', job.id, 'status',
    status, 'revision', revision, 'queue', job.queue, 'created', job.created, unpack(more)), events)
end
