-- Reads sessions. ARGV: format, births of 8 bytes each, most bytes. Returns, for the first births, false or what
-- read_sessions finds.
local failed = format_error()
if failed then return failed end

local births = {}
for first = 1, #ARGV[2], 8 do births[#births + 1] = sub(ARGV[2], first, first + 7) end
return read_sessions(births, tonumber(ARGV[3]))
