-- How limits stand, by the arithmetic of admit.lua; nothing is charged.
-- KEYS[i]: limit; ARGV[2i-1..2i]: emission, tolerance. Returns {units left, us until untouched} for each.
local time = redis.call('TIME')
local now = (time[1] - 1735689600) * 1000000 + time[2]
local stored = redis.call('MGET', unpack(KEYS))
local standings = {}
for i = 1, #KEYS do
  local ahead = math.max(0, (stored[i] or now) - now)
  standings[i] = {math.max(0, math.floor((ARGV[2 * i] - ahead) / ARGV[2 * i - 1])), ahead}
end
return standings
