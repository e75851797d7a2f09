-- Shared circuit breakers: what calls reported, who may probe, and the transitions between states.
--
-- KEYS  one hash a breaker
-- ARGV  for each ten: the epoch that outcomes belong to (0: not known), outcomes ("f3 s1 f2"),
--       probes ("token=s": it succeeded, f: it failed, i: neither, r: it goes on), a token that asks
--       to probe (or nothing), the window's kind (c, n, t), its size (failures, calls or
--       microseconds), rate, least calls, cooldown in microseconds, good probes that close it
-- Returns for each: state (c, o, h), epoch, version, failures, microseconds of cooldown left,
--       openings in a row, microseconds of the probe's lease left, 1 for a probe granted, 2 where
--       every call may pass.
--
-- Fields: s state, e epoch, v version, f failures, n openings, u end of the cooldown, g good probes,
-- p who probes, l end of its lease, w what the window holds.
local CHANNEL = 'bulkhead:breakers'
local LEASE = 3000000
local KEPT_MS = 3600000
local BUCKETS = 10

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function read(key)
  local found = redis.pcall('HMGET', key, 's', 'e', 'v', 'f', 'n', 'u', 'g', 'p', 'l', 'w')
  if found.err then
    redis.call('DEL', key)  -- somebody else wrote it
    found = {}
  end
  local b = {s = found[1] or 'c', p = found[8] or '', w = found[10] or ''}
  b.is_new = not found[1]
  b.e, b.v, b.f = tonumber(found[2] or 0), tonumber(found[3] or 0), tonumber(found[4] or 0)
  b.n, b.u, b.g = tonumber(found[5] or 0), tonumber(found[6] or 0), tonumber(found[7] or 0)
  b.l = tonumber(found[9] or 0)
  return b
end

local function number(value) return string.format('%.0f', value) end

local function write(key, b, rules)
  redis.call('HSET', key, 's', b.s, 'e', number(b.e), 'v', number(b.v), 'f', b.f, 'n', b.n,
    'u', number(b.u), 'g', b.g, 'p', b.p, 'l', number(b.l), 'w', b.w)
  redis.call('PEXPIRE', key, KEPT_MS + math.ceil(rules.cooldown / 1000))
end

local function answer(b, granted)
  local cooldown = b.s == 'o' and math.max(0, b.u - now) or 0
  local lease = b.s == 'h' and math.max(0, b.l - now) or 0
  return {b.s, b.e, b.v, b.f, cooldown, b.n, lease, granted}
end

local function enter(b, state)
  b.s, b.e, b.p, b.l, b.g = state, b.e + 1, '', 0, 0
end

local function open(b, rules)
  enter(b, 'o')
  b.n, b.u, b.w = b.n + 1, now + rules.cooldown, ''
end

local function close(b)
  enter(b, 'c')
  b.n, b.f, b.w, b.u = 0, 0, '', 0
end

-- The windows: each counts outcomes one at a time until the breaker opens, and says whether it did.

local function enough(calls, failures, rules)
  return calls >= rules.minimum and calls > 0 and failures / calls >= rules.rate
end

local count = {}

function count.c(b, outcome, times, rules)
  if outcome == 's' then
    b.f = 0
    return false
  end
  b.f = math.min(rules.size, b.f + times)
  return b.f >= rules.size
end

function count.n(b, outcome, times, rules)
  local _, failures = string.gsub(b.w, 'f', 'f')
  for _ = 1, math.min(times, rules.size) do
    if #b.w == rules.size then
      if string.sub(b.w, 1, 1) == 'f' then failures = failures - 1 end
      b.w = string.sub(b.w, 2)
    end
    b.w = b.w .. outcome
    if outcome == 'f' then failures = failures + 1 end
    b.f = failures
    if enough(#b.w, failures, rules) then return true end
  end
  return false
end

function count.t(b, outcome, times, rules)
  local tick = math.floor(now / (rules.size / BUCKETS))
  local older, calls, failures, newest_calls, newest_failures = {}, 0, 0, 0, 0
  for at, c, f in string.gmatch(b.w, '(%d+):(%d+):(%d+)') do
    at, c, f = tonumber(at), tonumber(c), tonumber(f)
    if at >= tick then
      newest_calls, newest_failures = newest_calls + c, newest_failures + f
    elseif at > tick - BUCKETS then
      older[#older + 1] = number(at) .. ':' .. c .. ':' .. f
    else
      c, f = 0, 0
    end
    calls, failures = calls + c, failures + f
  end
  local failed = outcome == 'f' and 1 or 0
  local opens = false
  for _ = 1, times do
    calls, failures = calls + 1, failures + failed
    newest_calls, newest_failures = newest_calls + 1, newest_failures + failed
    opens = enough(calls, failures, rules)
    if opens then break end
  end
  older[#older + 1] = number(tick) .. ':' .. newest_calls .. ':' .. newest_failures
  b.w, b.f = table.concat(older, ' '), failures
  return opens
end

local function report(b, outcomes, rules)
  for outcome, times in string.gmatch(outcomes, '([sf])(%d+)') do
    if count[rules.kind](b, outcome, tonumber(times), rules) then
      open(b, rules)
      return
    end
  end
end

local function probed(b, probes, rules)
  for token, outcome in string.gmatch(probes, '([^ =]+)=(%a)') do
    if b.s == 'h' and b.p == token then
      if outcome == 'r' then
        b.l = now + LEASE
      else
        b.p, b.l = '', 0
        if outcome == 's' then
          b.g = b.g + 1
          if b.g >= rules.successes then close(b) end
        elseif outcome == 'f' then
          b.f = b.f + 1
          open(b, rules)
        end
      end
    end
  end
end

local function ask(b, token)
  if b.s == 'c' then return 2 end
  if b.s == 'o' and now >= b.u then enter(b, 'h') end
  if b.s == 'h' and b.l <= now then
    b.p, b.l = token, now + LEASE
    return 1
  end
  return 0
end

local answers = {}
for i = 1, #KEYS do
  local key, at = KEYS[i], 10 * (i - 1)
  local epoch, outcomes, probes, token = tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local rules = {
    kind = ARGV[at + 5], size = tonumber(ARGV[at + 6]), rate = tonumber(ARGV[at + 7]),
    minimum = tonumber(ARGV[at + 8]), cooldown = tonumber(ARGV[at + 9]),
    successes = tonumber(ARGV[at + 10]),
  }
  local b = read(key)
  local state, failing, holder, good = b.s, b.f > 0, b.p, b.g
  local before = table.concat({b.s, number(b.e), b.f, b.g, b.p, number(b.l), b.w}, ' ')
  probed(b, probes, rules)
  if outcomes ~= '' and b.s == 'c' and (epoch == b.e or epoch == 0 or b.is_new) then
    report(b, outcomes, rules)
  end
  local granted = 0
  if token ~= '' then granted = ask(b, token) end
  if before ~= table.concat({b.s, number(b.e), b.f, b.g, b.p, number(b.l), b.w}, ' ') then
    -- Numbers that are gone with an old hash are not given again.
    if b.is_new then b.e, b.v = b.e + now, now end
    b.v = b.v + 1
    write(key, b, rules)
  end
  answers[i] = answer(b, granted)
  if b.s ~= state or failing ~= (b.f > 0) or holder ~= b.p or good ~= b.g then
    local told = answers[i]
    redis.call('PUBLISH', CHANNEL, table.concat({key, told[1], number(told[2]), number(told[3]),
      told[4], number(told[5]), told[6], number(told[7])}, ' '))
  end
end
return answers
