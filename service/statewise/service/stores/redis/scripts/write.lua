-- Writes rows with their states. ARGV: format, writer, number of the call, time in ms since when the outcome of an
-- earlier call is unknown (or ''), names, then three a group: reference and description, bytes of a state, and rows
-- of 64 bytes each followed by its state. Returns the time in ms, the births whose rows were left out, and the bytes
-- of the others.
local writer, number, doubt_ms, packed_names = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local failed = format_error() or late_error(writer, number)
if failed then return failed end

local time_ms = now_ms()
local names, moved, pairs_to_set, written_bytes = {}, {}, {}, 0

local at = 1
while at <= #packed_names do
  local birth, length = sub(packed_names, at, at + 7), unpack_bytes('<I4', packed_names, at + 8)
  names[birth] = sub(packed_names, at + 12, at + 11 + length)
  at = at + 12 + length
end

-- The writer may have named a session in a call without answer, and forgotten is what others ended since.
local names_are_old = doubt_ms ~= '' and tonumber(doubt_ms) <= tonumber(call('GET', prefix .. 'forgotten') or -1)

local function save(birth, entry)
  local new = parse(entry)
  call('HSET', SESSIONS, birth, entry)
  count('g:' .. new.group, 1)
  if new.handle ~= NONE then call('HSET', HANDLES, new.handle, birth) end
  return new
end

local function begin(birth, start, row)
  if not names[birth] or names_are_old or call('ZSCORE', ENDED, birth) then return false end
  local new = save(birth, NONE .. start .. names[birth])
  local ids = prefix .. 'ids:' .. new.owner
  local other = call('HGET', ids, new.id)
  if other then finish(other, call('HGET', SESSIONS, other), time_ms) end
  call('HSET', ids, new.id, birth)
  call('ZADD', prefix .. 'order:' .. new.owner, 0, new.id)
  call('ZADD', OWNERS, 0, new.owner)
  call('ZADD', USED, unpack_bytes('<I8', row, 49), birth)
  count_sessions(new.owner, 1)
  count_bytes(new.owner, new.bytes)
  return true
end

local function change(birth, start, entry, row)
  local old = parse(entry)
  if not belongs_to(writer, entry) or number_of(sub(row, 57, 60)) < number_of(old.epoch) then return false end
  if names[birth] and names[birth] ~= old.names then return false end
  if old.handle ~= sub(row, 9, 16) then drop_handle(birth, old.handle) end
  local new = save(birth, old.writer .. start .. old.names)
  leave_group(old.group)
  count_bytes(new.owner, new.bytes - old.bytes)
  return true
end

local function set_all()
  if #pairs_to_set > 0 then call('MSET', unpack(pairs_to_set)) end
  pairs_to_set = {}
end

for group = 6, #ARGV, 3 do
  local reference, block = sub(ARGV[group], 1, 8), ARGV[group + 2]
  local size = ROW + tonumber(ARGV[group + 1])
  local end_of_fixed = reference .. pack_bytes('<I4', size)
  call('HSETNX', GROUPS, reference, sub(ARGV[group], 9))
  local births = {}
  for first = 1, #block, size do births[#births + 1] = sub(block, first, first + 7) end
  for i, entry in ipairs(entries(births)) do
    local birth, first = births[i], (i - 1) * size
    local start = sub(block, first + 57, first + 60) .. sub(block, first + 9, first + 16) .. end_of_fixed
    local kept = entry and sub(entry, 9, FIXED) == start and belongs_to(writer, entry) and not names[birth]
    if not kept then
      local row = sub(block, first + 1, first + ROW)
      if entry then kept = change(birth, start, entry, row) else kept = begin(birth, start, row) end
    end
    if kept then
      pairs_to_set[#pairs_to_set + 1] = prefix .. 's:' .. birth
      pairs_to_set[#pairs_to_set + 1] = sub(block, first + 1, first + size)
      written_bytes = written_bytes + size
      if #pairs_to_set >= MOST then set_all() end
    else
      moved[#moved + 1] = birth
    end
  end
  set_all()
  if not call('HGET', USAGE, 'g:' .. reference) then call('HDEL', GROUPS, reference) end
end
return { time_ms, moved, written_bytes }
