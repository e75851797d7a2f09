-- Whose turn it is to check upstreams, and what has been found.
--
-- KEYS  one hash an upstream
-- ARGV  for each five: this instance, what it wants (take, report, leave), milliseconds of its turn,
--       what it found (1 healthy, 0 not, or nothing), the upstream as JSON
-- Returns for each: 1 where it is this instance's turn, what was last found (1, 0 or nothing).
--
-- Fields: o whose turn it is, x until when, h what was last found.
local CHANNEL = 'bulkhead:health'
local LEAST_KEPT = 60000

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local answers = {}
for i = 1, #KEYS do
  local key, at = KEYS[i], 5 * (i - 1)
  local who, wants, turn = ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local finding, upstream = ARGV[at + 4], ARGV[at + 5]
  local found = redis.pcall('HMGET', key, 'o', 'x', 'h')
  if found.err then
    redis.call('DEL', key)  -- somebody else wrote it
    found = {false, false, false}
  end
  local owner, till, known = found[1], tonumber(found[2] or 0), found[3]
  local is_free = not owner or till <= now
  local is_mine = owner == who

  if wants == 'take' and (is_mine or is_free) then
    redis.call('HSET', key, 'o', who, 'x', string.format('%.0f', now + turn))
    redis.call('PEXPIRE', key, math.max(LEAST_KEPT, 2 * turn))
    is_mine = true
  elseif wants == 'leave' and is_mine then
    redis.call('HDEL', key, 'o', 'x')
    is_mine = false
  elseif wants == 'report' and (is_mine or is_free) then
    -- One whose turn is over says nothing: somebody else has looked since.
    if finding ~= known then
      redis.call('PUBLISH', CHANNEL, who .. ' ' .. finding .. ' ' .. upstream)
    end
    redis.call('HSET', key, 'h', finding)
    redis.call('PEXPIRE', key, math.max(LEAST_KEPT, 2 * turn))
    known = finding
  end
  answers[i] = {is_mine and 1 or 0, known or ''}
end
return answers
