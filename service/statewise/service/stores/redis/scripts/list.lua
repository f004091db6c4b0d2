-- Lists sessions by owner and id. ARGV: format, 'one' owner or 'all', owner and id after which to begin, most
-- sessions. Returns, for each, its owner, its id, its birth, and its entry, its row and the description of
-- its group; false for a part that is lost.
local first_owner, first_id, most = ARGV[3], ARGV[4], tonumber(ARGV[5])
local failed = format_error()
if failed then return failed end

local owners = { first_owner }
if ARGV[2] == 'all' then owners = call('ZRANGEBYLEX', OWNERS, '[' .. first_owner, '+', 'LIMIT', 0, most) end
local found = {}
for _, owner in ipairs(owners) do
  local from = owner == first_owner and '(' .. first_id or '-'
  local ids = call('ZRANGEBYLEX', prefix .. 'order:' .. owner, from, '+', 'LIMIT', 0, most - #found)
  for _, id in ipairs(ids) do
    local birth = call('HGET', prefix .. 'ids:' .. owner, id)
    local entry = call('HGET', SESSIONS, birth)
    local group = entry and call('HGET', GROUPS, sub(entry, 21, 28))
    local whole = entry and call('STRLEN', STATE .. birth) == parse(entry).bytes
    local lost = call('HEXISTS', CHECKPOINTS, birth) > call('EXISTS', KEPT .. birth)
    whole = whole and not lost
    found[#found + 1] = { owner, id, birth, entry, whole and call('GETRANGE', STATE .. birth, 0, ROW - 1), group }
  end
  if #found == most then break end
end
return found
