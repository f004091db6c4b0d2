-- Looks births up. ARGV: format, key below the prefix, then what to look up. Returns a birth, or false, for each.
local failed = format_error()
if failed then return failed end

local found = {}
for first = 3, #ARGV, MOST do
  local last = math.min(first + MOST - 1, #ARGV)
  for i, birth in ipairs(call('HMGET', prefix .. ARGV[2], unpack(ARGV, first, last))) do
    found[first - 3 + i] = birth
  end
end
return found
