-- Sliding window logs of several tenants, in one step.
--
-- KEYS  one log a tenant
-- ARGV  for each: limit, window in microseconds, units asked for
-- Returns for each: units granted, units left, microseconds until the next unit may be had (0 where
-- one is left), microseconds until the log is empty.
--
-- A log is a list of "until:units:sum", the oldest first: until when so many units count, and how
-- many have been granted since the list began. The units in use are a difference of two sums, so
-- that nothing is added up however long the list is.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local LONGEST = 4096

local function parse(entry)
  local till, units, sum = string.match(entry, '^(%d+):(%d+):(%d+)$')
  return tonumber(till), tonumber(units), tonumber(sum)
end

local function format(till, units, sum)
  return string.format('%.0f:%.0f:%.0f', till, units, sum)
end

-- A clock that went back, or a window that became shorter: nothing counts for longer than it.
local function clamp(key, most)
  local entries = redis.call('LRANGE', key, 0, -1)
  for i = #entries, 1, -1 do
    local till, units, sum = parse(entries[i])
    if till <= most then break end
    redis.call('LSET', key, i - 1, format(most, units, sum))
  end
end

local answers = {}
for i = 1, #KEYS do
  local key = KEYS[i]
  local limit = tonumber(ARGV[3 * i - 2])
  local window = tonumber(ARGV[3 * i - 1])
  local asked = tonumber(ARGV[3 * i])
  -- Of a large limit, moments close together share an entry, which counts until the last of them.
  local grain = limit > LONGEST and window / LONGEST or 0
  local new_till = now + window
  if grain > 0 then new_till = math.ceil(math.ceil(new_till / grain) * grain) end

  local head_till, head_units, head_sum
  local entry = redis.pcall('LINDEX', key, 0)
  if type(entry) == 'table' or (entry and not parse(entry)) then
    redis.call('DEL', key)  -- somebody else wrote it
    entry = false
  end
  while entry do
    head_till, head_units, head_sum = parse(entry)
    if head_till > now then break end
    redis.call('LPOP', key)
    head_till = nil
    entry = redis.call('LINDEX', key, 0)
  end

  local used, tail_till, tail_units, tail_sum = 0, 0, 0, 0
  if head_till then
    tail_till, tail_units, tail_sum = parse(redis.call('LINDEX', key, -1))
    if tail_till > new_till then
      clamp(key, new_till)
      tail_till = new_till
      head_till = math.min(head_till, new_till)
    end
    used = tail_sum - head_sum + head_units
  end

  local granted = math.max(0, math.min(asked, limit - used))
  if granted > 0 then
    if head_till and tail_till == new_till then
      redis.call('LSET', key, -1, format(new_till, tail_units + granted, tail_sum + granted))
    else
      redis.call('RPUSH', key, format(new_till, granted, tail_sum + granted))
    end
    redis.call('PEXPIRE', key, math.ceil((new_till - now) / 1000) + 1)
    tail_till = new_till
    head_till = head_till or new_till
    used = used + granted
  end
  local left = math.max(0, limit - used)
  local wait = 0
  if left == 0 then
    -- Above a limit that was lowered, more than one entry has to go.
    local missing, at = used - limit + 1, 0
    wait = head_till - now
    if missing > 1 then
      local entries = redis.call('LRANGE', key, 0, -1)
      for j = 1, #entries do
        local till, units = parse(entries[j])
        missing = missing - units
        wait = till - now
        if missing <= 0 then break end
      end
    end
  end
  answers[i] = {granted, left, wait, used > 0 and tail_till - now or 0}
end
return answers
