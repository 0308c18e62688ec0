-- Sets whether a queue gives out jobs, and tells those who wait.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 queue, 2 `paused:most` as the queue's field holds it, empty for a queue like any other
-- Returns: CONFIGURED
expect('hash', key('queues'))
expect('stream', key('events'))
if ARGV[2] == '' then
  redis.call('HDEL', key('queues'), ARGV[1])
else
  redis.call('HSET', key('queues'), ARGV[1], ARGV[2])
end
tell('queue', ARGV[1])
return { 'CONFIGURED' }
