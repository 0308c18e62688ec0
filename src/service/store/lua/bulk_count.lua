-- Counts the next jobs that a bulk action matches.
--
-- KEYS: 1 the partition's root
-- ARGV: 1 id of the action, 2 how long it is kept after its last change (ms), 3 most jobs, 4 most index entries to walk, 5 its
--       filter, as `begin_step` in lib/bulk.lua takes it
-- Returns: STEPPED with 1 if all are counted (else 0)
local step = begin_step('counted', ARGV[1], ARGV[5], tonumber(ARGV[2]))
if not step then return { 'STEPPED', 1 } end
local matched = tonumber(call('HGET', step.name, 'matched') or nil) or 0
walk_on(step, tonumber(ARGV[3]), tonumber(ARGV[4]), function() matched = matched + 1 end)
end_step(step, { 'matched', format('%d', matched) })
return { 'STEPPED', step.place == 'end' and 1 or 0 }
