-- How limits stand, by the arithmetic of admit.lua and with its arguments; nothing is charged.
-- KEYS[i]: limit; ARGV[1]: its emission, tolerance and cost, doubles. Returns {units left, us until untouched} for each.
local charges = {struct.unpack('<' .. string.rep('d', 3 * #KEYS), ARGV[1])}
local time = redis.call('TIME')
local now = (time[1] - 1735689600) * 1000000 + time[2]
local stored = redis.call('MGET', unpack(KEYS))
local standings = {}
for i = 1, #KEYS do
  local ahead = math.max(0, (stored[i] or now) - now)
  standings[i] = {math.max(0, math.floor((charges[3 * i - 1] - ahead) / charges[3 * i - 2])), ahead}
end
return standings
