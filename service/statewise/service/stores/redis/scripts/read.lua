-- Reads sessions. ARGV: format, births of 8 bytes each. Returns, for each birth, false or its entry, its row and
-- state, and the description of its group.
local failed = format_error()
if failed then return failed end

local births, found = {}, {}
for first = 1, #ARGV[2], 8 do births[#births + 1] = sub(ARGV[2], first, first + 7) end
for i, entry in ipairs(entries(births)) do
  found[i] = entry
    and { entry, call('GET', STATE .. births[i]), call('HGET', GROUPS, sub(entry, 21, 28)) }
end
return found
