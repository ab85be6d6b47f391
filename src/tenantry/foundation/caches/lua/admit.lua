-- GCRA over several limits, all or none (https://brandur.org/rate-limiting). Integer microseconds since 2025, which
-- keeps every sum below 2^53, where Lua's doubles stop being whole.
-- KEYS[i]: limit; ARGV[1]: its emission, tolerance and cost, doubles. Returns {allowed, wait_us, remaining, index from 0}.
local charges = {struct.unpack('<' .. string.rep('d', 3 * #KEYS), ARGV[1])}
local time = redis.call('TIME')
local now = (time[1] - 1735689600) * 1000000 + time[2]
local stored = redis.call('MGET', unpack(KEYS))
local ahead = {}
local wait, waiting, waiting_left = 0, 0, 0
local left, least = 2 ^ 53, 0
for i = 1, #KEYS do
  local emission, tolerance, cost = charges[3 * i - 2], charges[3 * i - 1], charges[3 * i]
  local before = (stored[i] or now) - now
  if before < 0 then before = 0 end
  local after = before + emission * cost
  if after - tolerance > wait then
    wait, waiting = after - tolerance, i - 1
    waiting_left = math.max(0, math.floor((tolerance - before) / emission))
  end
  local remaining = math.floor((tolerance - after) / emission)
  if remaining < left then left, least = remaining, i - 1 end
  ahead[i] = after
end
if wait > 0 then return {0, wait, waiting_left, waiting} end
for i = 1, #KEYS do
  redis.call('SET', KEYS[i], now + ahead[i], 'PX', math.ceil(ahead[i] / 1000) + 1)
end
return {1, 0, left, least}
