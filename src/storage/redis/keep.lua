-- Keeps what was read of a user's timeline, unless the user was forgotten since the reading began.
-- KEYS[1] the user, ARGV[1] the epoch at that time, ARGV[2] milliseconds for which anything is kept, ARGV[3] the
-- count or nothing, ARGV[4] a page's name or nothing, ARGV[5] the page, ARGV[6] how many pages are kept.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  return 0
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'total', ARGV[3])
end
if ARGV[4] ~= '' then
  -- Their names, the oldest first.
  local pages = {}
  for page in string.gmatch(redis.call('HGET', KEYS[1], 'pages') or '', '%S+') do
    if page ~= ARGV[4] then
      pages[#pages + 1] = page
    end
  end
  while #pages >= tonumber(ARGV[6]) do
    redis.call('HDEL', KEYS[1], table.remove(pages, 1))
  end
  pages[#pages + 1] = ARGV[4]
  redis.call('HSET', KEYS[1], ARGV[4], ARGV[5], 'pages', table.concat(pages, ' '))
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
