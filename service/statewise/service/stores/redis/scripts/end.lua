-- Ends sessions. ARGV: format, writer, number of the call, births of 8 bytes each, and perhaps an owner: then sessions of
-- others stay; without one, those that other writers claimed. Returns the time in ms, and the births of the latter.
local writer, number, births_packed, owner = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local failed = format_error() or late_error(writer, number)
if failed then return failed end

local time_ms = now_ms()
local births, kept = {}, {}
for first = 1, #births_packed, 8 do births[#births + 1] = sub(births_packed, first, first + 7) end
for i, entry in ipairs(entries(births)) do
  if owner then
    if entry and parse(entry).owner == owner then finish(births[i], entry, time_ms) end
  elseif not entry then
    call('ZADD', ENDED, 'NX', time_ms, births[i])
  elseif belongs_to(writer, entry) then
    finish(births[i], entry, time_ms)
  else
    kept[#kept + 1] = births[i]
  end
end
save_counts()
return { time_ms, kept }
