-- Writes rows with their states, and named checkpoints. ARGV: format, writer, number of the call, time in ms since when
-- the outcome of an earlier call is unknown (or ''), names; number of checkpoints that are dropped, and of each birth and
-- name; number of new ones, and of each birth and name, and its value; then of each group: reference and description; for
-- each row what its entry has of it (epoch, handle, reference, bytes); rows of 64 bytes, each followed by its state.
-- Returns the time in ms, the births of which something was left out, and the bytes of what was written.
--
-- Each row is an argument, for Lua hashes every byte of a string that it makes: to cut rows out of one long argument
-- would hash them twice.
local BEGINNING, find = 24, string.find -- bytes
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

local function set_all()
  if #pairs_to_set > 0 then call('MSET', unpack(pairs_to_set)) end
  pairs_to_set = {}
end

local function begin(birth, beginning, row)
  if not names[birth] or names_are_old or call('ZSCORE', ENDED, birth) then return false end
  local entry = sub(writer, 1, 7) .. NAMED .. beginning .. names[birth]
  local new = parse(entry)
  local ids = prefix .. 'ids:' .. new.owner
  local other = call('HGET', ids, new.id)
  if other then
    set_all()
    finish(other, call('HGET', SESSIONS, other), time_ms)
  end
  call('HSET', SESSIONS, birth, entry)
  call('HSET', ids, new.id, birth)
  call('ZADD', prefix .. 'order:' .. new.owner, 0, new.id)
  call('ZADD', OWNERS, 0, new.owner)
  call('ZADD', USED, unpack_bytes('<I8', row, 49), birth)
  if new.handle ~= NONE then call('HSET', HANDLES, new.handle, birth) end
  count_session(new.owner, new.group, 1, new.bytes)
  return true
end

local function change(birth, beginning, entry)
  if not belongs_to(writer, entry) then return false end
  if names[birth] and names[birth] ~= sub(entry, FIXED + 1) then return false end
  local old, new = parse(entry), parse(sub(entry, 1, 8) .. beginning .. sub(entry, FIXED + 1))
  if number_of(new.epoch) < number_of(old.epoch) then return false end
  if old.handle ~= new.handle then
    drop_handle(birth, old.handle)
    if new.handle ~= NONE then call('HSET', HANDLES, new.handle, birth) end
  end
  local claimer = number_of(new.epoch) > number_of(old.epoch) and writer or sub(entry, 1, 8)
  call('HSET', SESSIONS, birth, claimer .. beginning .. new.names)
  count_session(old.owner, old.group, -1, -old.bytes)
  count_session(new.owner, new.group, 1, new.bytes)
  return true
end

local dropped_at, new_at = 7, 8 + ARGV[6]
local argument = new_at + 2 * ARGV[new_at - 1]
while ARGV[argument] do
  local reference, beginnings = sub(ARGV[argument], 1, 8), ARGV[argument + 1]
  local rows = #beginnings / BEGINNING
  descriptions[reference] = sub(ARGV[argument], 9)
  local births = {}
  for i = 1, rows do births[i] = sub(ARGV[argument + 1 + i], 1, 8) end
  for i, entry in ipairs(entries(births)) do
    local birth, value = births[i], ARGV[argument + 1 + i]
    local beginning = sub(beginnings, (i - 1) * BEGINNING + 1, i * BEGINNING)
    local kept = entry and find(entry, beginning, 9, true) == 9 and belongs_to(writer, entry) and not names[birth]
    if finished[birth] then
      kept = false
    elseif not kept then
      if entry then kept = change(birth, beginning, entry) else kept = begin(birth, beginning, value) end
    end
    if kept then
      pairs_to_set[#pairs_to_set + 1] = STATE .. birth
      pairs_to_set[#pairs_to_set + 1] = value
      written_bytes = written_bytes + #value
      if #pairs_to_set >= MOST then set_all() end
    else
      moved[#moved + 1] = birth
    end
  end
  set_all()
  argument = argument + 2 + rows
end

-- Sessions by birth: the owner if this writer may change the checkpoints, else false.
local owners = {}
for _, birth in ipairs(moved) do owners[birth] = false end

local function owner_of(birth)
  if owners[birth] == nil then
    local entry = not finished[birth] and call('HGET', SESSIONS, birth)
    owners[birth] = entry and belongs_to(writer, entry) and parse(entry).owner
    if not owners[birth] then moved[#moved + 1] = birth end
  end
  return owners[birth]
end

-- Puts a checkpoint in the place of the one that has its name; without a value, drops that one.
local function keep(birth, name, value)
  local owner, key = owner_of(birth), KEPT .. birth
  if not owner then return end
  local old_bytes = call('HSTRLEN', key, name)
  local change = old_bytes == 0 and 0 or -old_bytes - #name
  if value then
    change = change + #name + #value
    call('HSET', key, name, value)
    written_bytes = written_bytes + #value
  elseif old_bytes > 0 then
    call('HDEL', key, name)
  end
  count_checkpoints(birth, owner, change)
end

for i = dropped_at, new_at - 2 do keep(sub(ARGV[i], 1, 8), sub(ARGV[i], 9)) end
for i = new_at, new_at + 2 * ARGV[new_at - 1] - 2, 2 do keep(sub(ARGV[i], 1, 8), sub(ARGV[i], 9), ARGV[i + 1]) end
save_counts()
return { time_ms, moved, written_bytes }
