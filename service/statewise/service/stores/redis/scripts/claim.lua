-- Claims sessions for a writer. ARGV: format, writer, number of the call, births of 8 bytes each, most bytes. Returns the
-- time in ms and, for the first births, false or what read_sessions finds, and '1' if it was the writer's already; those
-- it claims. Claims nothing if one of them is damaged: what is returned then tells which.
local writer, number, births_packed = ARGV[2], ARGV[3], ARGV[4]
local failed = format_error() or late_error(writer, number)
if failed then return failed end

local births, whole = {}, true
for first = 1, #births_packed, 8 do births[#births + 1] = sub(births_packed, first, first + 7) end
local found = read_sessions(births, tonumber(ARGV[5]))
for _, parts in ipairs(found) do
  if parts then
    whole = whole and is_whole(unpack(parts))
    parts[6] = sub(parts[1], 1, 7) == sub(writer, 1, 7) and '1' or '0'
  end
end
for i, parts in ipairs(whole and found or {}) do
  if parts then
    local entry, value = parts[1], parts[2]
    local epoch = pack_bytes('<I4', number_of(sub(entry, 9, 12)) + 1)
    parts[1] = writer .. epoch .. sub(entry, 13)
    parts[2] = sub(value, 1, 56) .. epoch .. sub(value, 61)
    call('HSET', SESSIONS, births[i], parts[1])
    call('SETRANGE', STATE .. births[i], 56, epoch)
  end
end
return { now_ms(), found }
