-- A token bucket by the moment at which it will be full again, in microseconds of this server's clock.
-- KEYS[1] the bucket, ARGV[1] microseconds in which a token comes back, ARGV[2] how many it holds.
-- Answers 0 where a token was taken, else the microseconds until there is one.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local token = tonumber(ARGV[1])
local empty = token * tonumber(ARGV[2])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now) or now, now)
-- A clock that was set back must not lock anybody out: a bucket is never emptier than empty.
full_at = math.min(full_at, now + empty)
local after = full_at + token
if after - now > empty then
  return math.max(math.ceil(after - now - empty), 1)
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return 0
