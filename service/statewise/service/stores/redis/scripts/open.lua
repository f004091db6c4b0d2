-- Finds the format of what is stored, or begins an empty store. ARGV: the format to begin with. Returns the format
-- and the time in ms.
call('SETNX', prefix .. 'format', ARGV[1])
return { call('GET', prefix .. 'format'), now_ms() }
