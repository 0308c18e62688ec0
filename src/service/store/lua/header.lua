-- The first lines of every script. The last of KEYS is the root of the partition. Behind the ARGV of a script's header comes
-- one more, removed here: the time (µs) after which the script must not run, because its sender has given up by then and
-- may have sent it again. It then replies DEADLINE_EXCEEDED with the time. A colon and the name of the
-- request's API key may follow the time.
local floor, format, run_command = math.floor, string.format, redis.pcall
local root = KEYS[#KEYS]
local sent = table.remove(ARGV)
local deadline, BY = tonumber(sent), nil
if not deadline then
  deadline, BY = sent:match('^(%d+):(.*)$')
  deadline = tonumber(deadline)
end
local time = redis.call('TIME')
-- The time of the whole script, in µs and in ms since 1970. Numbers among the arguments of commands are formatted with '%d':
-- large ones would get an exponent otherwise.
local NOW = time[1] * 1000000 + time[2]
local NOW_MS = floor(NOW / 1000)
if NOW > deadline then return { 'DEADLINE_EXCEEDED', NOW } end
