-- KEYS[1]: what this server still knows: "run_id since_ms latest_ms". Returns {since_ms, latest_ms}: nonces signed
-- before `since` may have been lost (flush, restart from an old snapshot, fail-over), and `latest` is the latest time
-- ever read here, so that a clock set back does not bring expired nonces into the window again.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known, since, latest = string.match(redis.call('GET', KEYS[1]) or '', '^(%w+) (%d+) (%d+)$')
if known ~= run then since, latest = now, now end
since, latest = tonumber(since), math.max(tonumber(latest), now)
redis.call('SET', KEYS[1], string.format('%s %.0f %.0f', run, since, latest))
return {since, latest}
