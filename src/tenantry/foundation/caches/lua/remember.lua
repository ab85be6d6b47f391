-- KEYS[1]: nonce; ARGV: timestamp_ms, window_ms of the call, window_ms of the guard, clock_skew_ms.
-- The nonce stays a second longer than any call of it could still be in the window.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stamp = tonumber(ARGV[1])
if stamp > now + ARGV[4] then return 'in_future' end
if stamp <= now - ARGV[2] then return 'too_old' end
if redis.call('SET', KEYS[1], '1', 'NX', 'PX', stamp - now + ARGV[3] + 1000) then return 'allowed' end
return 'replayed'
