-- Writes the version of the data, and how many partitions it has if there are several, where there is no other data.
--
-- KEYS: 1 the version, 2 the number of partitions, 3 a key that the only partition has if it ever had a job, 4 a key that
--       only version 1 had, 5 a second one, 6 a third one, 7 the partition's root
-- ARGV: 1 the version of the service, 2 its number of partitions
-- Returns: VERSION with the version that the data has now (false for none), how many of the keys of version 1 exist, the number
--          of partitions that it has now (false for none), 1 if the third key exists (else 0)
local version, partitions = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
local has_meta, v1_keys = redis.call('EXISTS', KEYS[3]), redis.call('EXISTS', KEYS[4], KEYS[5], KEYS[6])
-- A service of version 1 that never had a job wrote nothing but its version.
local has_version = version and version ~= '1'
local held = partitions or (has_version or has_meta == 1) and '1'
if v1_keys == 0 and (not held or held == ARGV[2]) then
  if not has_version then
    version = ARGV[1]
    redis.call('SET', KEYS[1], version)
  end
  if not partitions and ARGV[2] ~= '1' then
    partitions = ARGV[2]
    redis.call('SET', KEYS[2], partitions)
  end
end
return { 'VERSION', version, v1_keys, partitions, has_meta }
