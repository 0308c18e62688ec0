-- Takes one request off a client's allowance, which fills up again at an even pace (the generic cell rate algorithm).
--
-- KEYS: 1 the partition's root
-- ARGV: 1 name of the client and its limit, 2 requests, 3 in how long (µs)
-- Returns: ALLOWED with the requests that are left and the time (µs) until all of them are there again
--          LIMITED with the time until all are there again and the time until the next one is
local allowance, requests, window = key('limit', ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local at, each = now(), window / requests

local whole_at = math.max(at, tonumber(redis.call('GET', allowance)) or 0)
local then_whole_at = whole_at + each
local early = then_whole_at - window - at
if early > 0 then return { 'LIMITED', digits(whole_at - at), digits(early) } end

redis.call('SET', allowance, digits(then_whole_at), 'PX', digits(math.ceil((then_whole_at - at) / 1000)))
return { 'ALLOWED', digits(math.floor(-early / each)), digits(then_whole_at - at) }
