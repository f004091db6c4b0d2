-- Forgets which sessions ended long ago. ARGV: format, age in ms, most births to forget. Returns how many it forgot.
local failed = format_error()
if failed then return failed end

local until_ms = now_ms() - tonumber(ARGV[2])
local births = call('ZRANGEBYSCORE', ENDED, '-inf', until_ms, 'LIMIT', 0, ARGV[3])
if #births > 0 then
  call('SET', prefix .. 'forgotten', math.max(until_ms, tonumber(call('GET', prefix .. 'forgotten') or 0)))
  for first = 1, #births, MOST do
    call('ZREM', ENDED, unpack(births, first, math.min(first + MOST - 1, #births)))
  end
end
return #births
