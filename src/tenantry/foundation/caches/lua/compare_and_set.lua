-- KEYS[1]: entry (32 characters of ETag, then the value); ARGV: expected ETag or "(absent)", new entry, ttl_ms.
-- Returns 1 when stored, the ETag in force when another, 0 when there is none.
local present = redis.call('GETRANGE', KEYS[1], 0, 31)
if present == '' and ARGV[1] ~= '(absent)' then return 0 end
if present ~= '' and present ~= ARGV[1] then return present end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
