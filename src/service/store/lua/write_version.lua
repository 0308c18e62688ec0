-- Writes the version of the data where there is no data of another version.
--
-- KEYS: 1 a key that only version 1 had, 2 a second one, 3 a third one, 4 the partition's root
-- ARGV: 1 the version of the service
-- Returns: VERSION with the version that the data has now (false for none), how many of the first three keys exist
local name = key('version')
local found, v1_keys = redis.call('GET', name), redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3])
-- A service of version 1 that never had a job wrote nothing but its version.
if v1_keys == 0 and (not found or found == '1') then
  found = ARGV[1]
  redis.call('SET', name, found)
end
return { 'VERSION', found, v1_keys }
