-- What is kept of a user's timeline. KEYS[1] the user, ARGV[1] the page that is looked for, ARGV[2] an epoch
-- for a user of whom nothing is kept, ARGV[3] milliseconds for which anything is kept.
-- Answers the epoch, the milliseconds of this server's clock, the count and the page, as far as they are kept.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  -- Nothing, or something that was not written by this program.
  redis.call('DEL', KEYS[1])
end
local clock = redis.call('TIME')
local kept = redis.call('HMGET', KEYS[1], 'epoch', 'total', ARGV[1])
if not kept[1] then
  kept[1] = ARGV[2]
  redis.call('HSET', KEYS[1], 'epoch', kept[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
return { kept[1], string.format('%.0f', now), kept[2], kept[3] }
