-- Who is there: a sorted set of instances, each with the moment at which it is given up.
--
-- KEYS  the set
-- ARGV  this instance, milliseconds that it counts; 0: it leaves
-- Returns how many there are, which all are told when it has changed.
local CHANNEL = 'bulkhead:instances'
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local kept = tonumber(ARGV[2])
local before = redis.call('ZCARD', KEYS[1])
if kept > 0 then
  redis.call('ZADD', KEYS[1], now + kept, ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], math.max(kept, 1000) * 2)
local count = redis.call('ZCARD', KEYS[1])
if count ~= before then redis.call('PUBLISH', CHANNEL, tostring(count)) end
return count
