-- Writes the version of the data where there is no data of another version.
--
-- KEYS: 1 … keys of version 1, last the partition's root
-- ARGV: 1 the version of the service
-- Returns: VERSION with the version that the data has now (false for none), how many of the keys of version 1 exist
local name = key('version')
local found, v1_keys = redis.call('GET', name), redis.call('EXISTS', unpack(KEYS, 1, #KEYS - 1))
-- A service of version 1 that never had a job wrote nothing but its version.
if v1_keys == 0 and (not found or found == '1') then
  found = ARGV[1]
  redis.call('SET', name, found)
end
return { 'VERSION', found, v1_keys }
