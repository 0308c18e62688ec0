-- Reads the version of the data and finds commands that the user may not run. It writes nothing, but Redis refuses it
-- where it refuses every write: on a replica, or when its disk fails. It is allowed at the memory limit, where reads and
-- deletions still work.
--
-- KEYS: 1 the version key, 2 the key with the number of partitions, 3 a key that the only partition has if it ever had a
--       job, 4 … keys of version 1
-- ARGV: 1 … commands with arguments
-- Returns: the version (false if it is missing or a command is refused), how many of the keys of version 1 exist, the number
--          of partitions (false as the version), whether the third key exists, and the refused or unknown commands of ARGV.
--          Before Redis 7 `acl_check_cmd` does not exist and no command is reported.
local refused = {}
for _, command in ipairs(redis.acl_check_cmd and ARGV or {}) do
  local words = {}
  for word in command:gmatch('%S+') do words[#words + 1] = word end
  local exists, allowed = pcall(redis.acl_check_cmd, unpack(words))
  if not (exists and allowed) then refused[#refused + 1] = command end
end
if #refused > 0 then return { false, 0, false, 0, refused } end
return { redis.call('GET', KEYS[1]), redis.call('EXISTS', unpack(KEYS, 4)), redis.call('GET', KEYS[2]),
  redis.call('EXISTS', KEYS[3]), refused }
