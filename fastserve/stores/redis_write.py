"""Writing to Redis: the script that decides which rows are applied, and the ways to send and to delete.

Whether a row is newer is decided and acted upon inside one script, so that writers cannot come between each other. One
call carries many rows (see `_core_write.pxi` for its arguments), each of which is decided for itself.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator

from fastserve._core import EncodedRows, WritePlan
from fastserve.stores.redis_wire import Connection

__all__ = ["SCRIPT", "SCRIPT_SHA", "delete_keys", "delete_view", "escaped", "keys_of", "write_rows"]

# A row is applied if nothing is stored, or something older; at an equal time it only fills in the fields that are
# absent. Numbers in Lua are doubles, exact for all seconds of the years 1 to 9999. A global of Lua costs a look-up each
# time, so what rows need is local to `run`.
SCRIPT = b"""\
local row_at_work, applied = 0, 0

-- Returns the number and where it ends; of the ten bytes of a negative one, it sums up what the groups lack.
local function varint(text, at)
  local value, inverted, scale = 0, 0, 1
  for i = at, at + 9 do
    local b = string.byte(text, i)
    if not b then return nil end
    if b < 128 then
      if i == at + 9 and b % 2 == 1 then return -1 - inverted, i + 1 end
      return value + b * scale, i + 1
    end
    value, inverted, scale = value + (b - 128) * scale, inverted + (255 - b) * scale, scale * 128
  end
end

local skip = {
  [0] = function(text, at) local _, after = varint(text, at) return after end,
  [1] = function(_, at) return at + 8 end,
  [2] = function(text, at) local size, after = varint(text, at) return size and after + size end,
  [5] = function(_, at) return at + 4 end,
}

-- Returns seconds and nanoseconds of a serialised Timestamp as any writer may have it; nothing if it is none.
local function decode(text)
  local at, seconds, nanos, tag = 1, 0, 0, nil
  while at and at <= #text do
    tag, at = varint(text, at)
    if tag == 8 then seconds, at = varint(text, at)
    elseif tag == 16 then nanos, at = varint(text, at)
    elseif tag and skip[tag % 8] then at = skip[tag % 8](text, at)
    else return nil end
  end
  if at == #text + 1 then return seconds, nanos end
end

-- The years 1978 to 3058: tag 8 and five bytes. The offset by the continuation bits is the same for all.
local function ordinary_seconds(text)
  local tag, a, b, c, d, e = string.byte(text, 1, 6)
  if tag == 8 and e and e < 128 and a > 127 and b > 127 and c > 127 and d > 127 then
    return a + b * 128 + c * 16384 + d * 2097152 + e * 268435456
  end
end

-- Above 0: newer; 0: equal; what is no timestamp is older than any.
local function compare(time, stored)
  local s, t = ordinary_seconds(time), ordinary_seconds(stored)
  if s and t and s ~= t then return s - t end
  local m, n
  s, m = decode(time)
  t, n = decode(stored)
  if not t then return 1 end
  return s ~= t and s - t or m - n
end

-- Lua's stack holds some 8000 arguments.
local function set(key, fields)
  for i = 1, #fields, 2000 do
    redis.call('HSET', key, unpack(fields, i, math.min(i + 1999, #fields)))
  end
end

local function absent(key, names)
  local found = {}
  for i = 1, #names, 2000 do
    local stored = redis.call('HMGET', key, unpack(names, i, math.min(i + 1999, #names)))
    for j = 1, #stored do
      if not stored[j] then found[#found + 1] = i + j - 1 end
    end
  end
  return found
end

local function run()
  local keys, args, call, unpack, n = KEYS, ARGV, redis.call, unpack, #KEYS
  local width, ttl, always, clock = tonumber(args[1]), args[2], args[3] == '1', args[4]
  local times, names, row, size = 4 + width, {}, {clock, ''}, 2 * width + 2
  for i = 1, width do
    names[i] = args[4 + i]
    row[2 * i + 1] = names[i]
  end
  for r = 1, n do
    row_at_work = r
    local key, time, age = keys[r], args[times + r], 1
    if not always then
      local stored = call('HGET', key, clock)
      if stored then age = stored == time and 0 or compare(time, stored) end
    end
    local done = age > 0
    if done then
      local at = times + n + r
      row[2] = time
      for i = 4, size, 2 do
        row[i] = args[at]
        at = at + n
      end
      if size <= 2000 then call('HSET', key, unpack(row)) else set(key, row) end
    elseif age == 0 then
      local fields = {}
      for _, i in ipairs(absent(key, names)) do
        fields[#fields + 1] = names[i]
        fields[#fields + 1] = args[times + i * n + r]
      end
      done = #fields > 0
      set(key, fields)
    end
    if done then
      if ttl ~= '0' then call('EXPIRE', key, ttl) end
      applied = applied + 1
    end
  end
end

local ok, reason = pcall(run)
if ok then return applied end
if type(reason) == 'table' then reason = reason.err end
return {err = reason .. ' (row ' .. row_at_work .. ' of the call)'}
"""
SCRIPT_SHA = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest().encode()

# Deletes the fields of one view from those keys of a page that have it; a key of no other view goes as a whole. In a
# script, so that a view that is written at this moment is not lost with the key.
DROP_SCRIPT = b"""\
local clock, dropped = ARGV[1], 0
for _, key in ipairs(KEYS) do
  local fields = redis.call('HKEYS', key)
  local has, others = false, false
  for _, field in ipairs(fields) do
    if field == clock then has = true
    elseif #field > 4 and string.sub(field, 1, 4) == '_ts:' then others = true end
  end
  if has and not others then redis.call('DEL', key) end
  if has and others then
    for i = 1, #ARGV, 2000 do redis.call('HDEL', key, unpack(ARGV, i, math.min(i + 1999, #ARGV))) end
  end
  if has then dropped = dropped + 1 end
end
return dropped
"""

# Enough to keep the server busy while the next ones are encoded, and no more: a failure shows soon.
BYTES_AT_A_TIME = 1 << 18
KEYS_PER_SCAN = 1000


def write_rows(connection: Connection, rows: EncodedRows, key_ttl: int, always: bool, timeout: float) -> None:
    """Write all rows over one connection.

    Args:
        connection: an open one.
        rows: none of whose calls are under way.
        key_ttl: seconds that a key lives on from its last write; 0 for ever.
        always: do not look at what is stored.
        timeout: seconds that every piece of the rows may take.
    Raises:
        ConnectionLost, ScriptLost: writing again over another connection may do.
        StoreError, StoreTimeoutError: some rows may have been applied.
    """
    if SCRIPT_SHA not in connection.scripts:
        connection.call(time.monotonic() + timeout, "SCRIPT", "LOAD", SCRIPT)
        connection.scripts.add(SCRIPT_SHA)
    pieces = iter(lambda: rows.commands(SCRIPT_SHA, key_ttl, always, BYTES_AT_A_TIME), None)
    connection.write(rows, pieces, timeout)


def delete_view(connection: Connection, plan: WritePlan, timeout: float) -> None:
    """Delete the fields of the plan's view from all keys of its project; a key without another view goes as a whole."""
    clock, fields = plan.fields[-1], plan.fields[:-1]
    for keys in _keys_of(connection, plan, timeout):
        connection.call(time.monotonic() + timeout, "EVAL", DROP_SCRIPT, len(keys), *keys, clock, *fields)


def delete_keys(connection: Connection, plan: WritePlan, timeout: float) -> None:
    """Delete all keys of the plan's project and join keys, whatever the view."""
    for keys in _keys_of(connection, plan, timeout):
        connection.call(time.monotonic() + timeout, "UNLINK", *keys)


def _keys_of(connection: Connection, plan: WritePlan, timeout: float) -> Iterator[list[bytes]]:
    """Yield pages of the keys that are this project's and have these join keys; the whole database is walked."""
    cursor = b"0"
    while True:
        cursor, keys = keys_of(connection, plan, cursor, time.monotonic() + timeout)
        if keys:
            yield keys
        if cursor == b"0":
            return


def keys_of(connection: Connection, plan: WritePlan, cursor: bytes, deadline: float) -> tuple[bytes, list[bytes]]:
    """Return the next cursor, b"0" at the end, and a page of the keys of the plan's project and join keys."""
    pattern = escaped(plan.prefix) + b"*" + escaped(plan.suffix)
    after, page = connection.call(deadline, "SCAN", cursor, "MATCH", pattern, "COUNT", KEYS_PER_SCAN)
    # The pattern takes the end of a value for the project, too.
    return after, [key for key in page if plan.owns(key)]


def escaped(text: bytes) -> bytes:
    """Return a pattern that only this text matches."""
    return re.sub(rb"([*?\[\]\\^])", rb"\\\1", text)
