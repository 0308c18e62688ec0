-- Creates a job, or says that an equal or another one has its id.
--
-- KEYS: 1 the job's hash, 2 the partition's root
-- ARGV: 1 job id, 2 digest of the request, 3 id of this one request, 4 retention (ms), 5 delay (µs, 0 for none),
--       6 … field, value, … of the record
-- Returns: CREATED with the time (µs) and the fields that the script set; with the whole hash when the very request
--          that created the job is sent again because its reply was lost
--          REPLAYED with the time and the whole hash: an equal request created it
--          DRAINING with the milliseconds that it lasts, unless it is lifted before
--          EXISTS with status and revision: another request created it
local id, digest, request = ARGV[1], ARGV[2], ARGV[3]
local job_hash, clock = KEYS[1], key('clock')

local known = redis.call('HMGET', job_hash, '_creation', '_change', 'status', 'revision')
if known[3] then
  if known[1] ~= digest then return { 'EXISTS', known[3], known[4] } end
  return { known[2] == request and 'CREATED' or 'REPLAYED', digits(now()), redis.call('HGETALL', job_hash) }
end

local draining = redis.call('PTTL', key('drain'))
if draining > 0 then return { 'DRAINING', draining } end
if redis.call('EXISTS', job_hash) == 1 then error({ err = 'CORRUPT ' .. job_hash .. ' is not a record of ours' }) end

expect('string', clock)

local fields = pairs_from(ARGV, 6)
local delay = tonumber(ARGV[5])
local shelf = delay > 0 and 'delayed' or 'pending'

-- The clock makes the moment of creation unique and never lets it go back: it is the order of lists and their cursor.
-- Retention and delay run from now, so that a clock that was ahead once does not stretch them.
local at = now()
local created = math.max(at, (tonumber(redis.call('GET', clock)) or 0) + 1)
local expires = math.floor((at + delay) / 1000) + tonumber(ARGV[4])
local job = { id = id, status = 'pending', shelf = shelf, queue = fields.queue, slate_id = fields.slate_id, revision = 1,
  created = created, available = at + delay, expires = expires, tags = tags(fields.slate_id, fields.correlation_id) }
expect_indexes(job, shelf)

local set = { 'status', 'pending', 'revision', '1', 'created_at', iso(created), 'updated_at', iso(created),
  'expires_at', iso(expires * 1000) }
if delay > 0 then
  set[#set + 1] = 'available_at'
  set[#set + 1] = iso(job.available)
end

redis.call('SET', clock, digits(created))
for _, part in ipairs({ '_creation', digest, '_change', request, unpack(set) }) do ARGV[#ARGV + 1] = part end
redis.call('HSET', job_hash, unpack(ARGV, 6))
redis.call('PEXPIREAT', job_hash, digits(expires))
label(job)
put(job)
emit('changed', job)
return { 'CREATED', digits(at), set }
