-- Definitions that every script begins with. KEYS[1] is the prefix of all keys, ARGV[1] what the key `format` held
-- when the store was opened.
--
-- Births, handles and digests stay strings of 8 bytes, for a Lua number is a double. Keys below the prefix:
--   s:<birth>      row of 64 bytes, then the state
--   c:<birth>      named checkpoints: name -> position (8 bytes), time in ms (8), lengths of name and origin (2 each),
--                  origin, state
--   sessions       birth -> entry: the writer that claimed it last, or of a session that none has claimed, the one that named
--                  it, with NAMED as last byte (8 bytes), epoch (4), handle (8), group (8), bytes of row and state (4),
--                  length of the owner's name (2), owner, id. An entry changes rarely.
--   checkpoints    birth -> bytes of its named checkpoints: of names and values; of sessions that have some
--   ids:<owner>    id -> birth
--   order:<owner>  ids in the order of their bytes
--   owners         owners in the order of their bytes
--   handles        handle -> birth
--   used           birth, by a time in ms not later than its last use
--   ended          births of ended sessions, by the time of the end in ms
--   groups         reference -> model, version and digest
--   usage          counts of sessions (n:) and bytes (b:), by owner, and in all ("n", "b"); by group (g:)
--   forgotten      time in ms up to which ends have been forgotten
--   w:<writer>     number of the writer's last call; disappears after a day
local prefix = KEYS[1]
local SESSIONS, HANDLES, USED, USAGE = prefix .. 'sessions', prefix .. 'handles', prefix .. 'used', prefix .. 'usage'
local ENDED, GROUPS, OWNERS = prefix .. 'ended', prefix .. 'groups', prefix .. 'owners'
local ROW, FIXED, MOST = 64, 32, 500 -- bytes, bytes, arguments of one command (Lua's stack has 8,000 places)
local NONE, NAMED = string.rep('\0', 8), '\0' -- as handle; as last byte of a writer, which has another one
local STATE, KEPT, CHECKPOINTS = prefix .. 's:', prefix .. 'c:', prefix .. 'checkpoints'
local call, sub, unpack_bytes, pack_bytes = redis.call, string.sub, struct.unpack, struct.pack

local function format_error()
  local format = call('GET', prefix .. 'format')
  if format == ARGV[1] then return nil end
  return redis.error_reply('STOREFORMAT ' .. (format or 'missing'))
end

local function now_ms()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function late_error(writer, number)
  local key = prefix .. 'w:' .. writer
  local last = call('GET', key)
  if last and tonumber(last) >= tonumber(number) then return redis.error_reply('STORELATE') end
  call('SET', key, number, 'EX', 86400)
  return nil
end

local function parse(entry)
  local length = unpack_bytes('<I2', entry, FIXED + 1)
  return {
    writer = sub(entry, 1, 8),
    epoch = sub(entry, 9, 12),
    handle = sub(entry, 13, 20),
    group = sub(entry, 21, 28),
    bytes = unpack_bytes('<I4', entry, 29),
    names = sub(entry, FIXED + 1),
    owner = sub(entry, FIXED + 3, FIXED + 2 + length),
    id = sub(entry, FIXED + 3 + length),
  }
end

-- What none has claimed, any writer changes: in a store that has lost its sessions, and their claims, the epochs tell.
local function belongs_to(writer, entry)
  return sub(entry, 1, 8) == writer or sub(entry, 8, 8) == NAMED
end

local function number_of(bytes) return (unpack_bytes('<I4', bytes)) end

-- Counts change once a script, at its end: a session changes several.
local changes, descriptions = {}, {} -- field -> change; reference -> description, of groups that may be new

local function count(field, change) changes[field] = (changes[field] or 0) + change end

local function count_session(owner, group, sessions, bytes)
  count('n:' .. owner, sessions)
  count('n', sessions)
  count('b:' .. owner, bytes)
  count('b', bytes)
  count('g:' .. group, sessions)
end

-- Counts bytes of a session's named checkpoints, beside those of row and state.
local function count_checkpoints(birth, owner, bytes)
  if bytes == 0 then return end
  count('b:' .. owner, bytes)
  count('b', bytes)
  if call('HINCRBY', CHECKPOINTS, birth, bytes) == 0 then call('HDEL', CHECKPOINTS, birth) end
end

local function save_counts()
  for field, change in pairs(changes) do
    local group = sub(field, 1, 2) == 'g:' and sub(field, 3)
    if group and descriptions[group] then call('HSETNX', GROUPS, group, descriptions[group]) end
    if change ~= 0 and call('HINCRBY', USAGE, field, change) == 0 then
      call('HDEL', USAGE, field)
      if group then call('HDEL', GROUPS, group) end
    end
  end
end

local function drop_handle(birth, handle)
  if call('HGET', HANDLES, handle) == birth then call('HDEL', HANDLES, handle) end
end

local finished = {}

local function finish(birth, entry, time_ms)
  finished[birth] = true
  local old = parse(entry)
  call('HDEL', SESSIONS, birth)
  call('UNLINK', STATE .. birth)
  call('ZREM', USED, birth)
  call('ZADD', ENDED, time_ms, birth)
  drop_handle(birth, old.handle)
  local ids = prefix .. 'ids:' .. old.owner
  if call('HGET', ids, old.id) == birth then
    call('HDEL', ids, old.id)
    call('ZREM', prefix .. 'order:' .. old.owner, old.id)
    if call('EXISTS', ids) == 0 then call('ZREM', OWNERS, old.owner) end
  end
  count_session(old.owner, old.group, -1, -old.bytes)
  local kept = call('HGET', CHECKPOINTS, birth)
  if kept then
    call('UNLINK', KEPT .. birth)
    count_checkpoints(birth, old.owner, -kept)
  end
end

-- What a key has of births, false where it has nothing.
local function fields(key, births)
  local found = {}
  for first = 1, #births, MOST do
    local last = math.min(first + MOST - 1, #births)
    for i, value in ipairs(call('HMGET', key, unpack(births, first, last))) do
      found[first + i - 1] = value
    end
  end
  return found
end

-- The entries of births, false where there is none.
local function entries(births) return fields(SESSIONS, births) end

-- Of each birth, false or its entry, its row and state, the description of its group, the bytes of its named
-- checkpoints, and names and values of these; false for what is missing. Of the first births: until the bytes are most.
local function read_sessions(births, most)
  local found, kept, bytes = entries(births), fields(CHECKPOINTS, births), 0
  for i, entry in ipairs(found) do
    bytes = bytes + (entry and parse(entry).bytes + (kept[i] or 0) or 0)
    if i > 1 and bytes > most then
      found[i] = nil -- and what comes behind it is passed over
      break
    end
    if entry then
      local group = call('HGET', GROUPS, sub(entry, 21, 28))
      local checkpoints = kept[i] and call('HGETALL', KEPT .. births[i])
      found[i] = { entry, call('GET', STATE .. births[i]), group, kept[i], checkpoints }
    end
  end
  return found
end

local function is_whole(entry, value, group, kept, checkpoints)
  local bytes = 0
  for _, part in ipairs(checkpoints or {}) do bytes = bytes + #part end
  return value and group and #value == parse(entry).bytes and bytes == tonumber(kept or 0)
end
