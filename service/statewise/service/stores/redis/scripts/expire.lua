-- Ends sessions that were last used before a time. ARGV: format, the time in ms, most sessions to look at. Returns
-- the births of those that ended, and 1 if there may be more to look at.
local before_ms, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local failed = format_error()
if failed then return failed end

local time_ms = now_ms()
local looked_at = call('ZRANGEBYSCORE', USED, '-inf', '(' .. ARGV[2], 'LIMIT', 0, most)
local births = {}
for _, birth in ipairs(looked_at) do
  -- Writing does not move a session in `used`: where it was used since is seen here, once each time it comes up.
  local used = call('GETRANGE', STATE .. birth, 48, 55)
  local used_ms = #used == 8 and unpack_bytes('<I8', used) or 0
  if used_ms >= before_ms then
    call('ZADD', USED, used_ms, birth)
  else
    finish(birth, call('HGET', SESSIONS, birth), time_ms)
    births[#births + 1] = birth
  end
end
save_counts()
return { births, #looked_at == most and 1 or 0 }
