"""Precomputed vectors in Redis: the script that merges them segment by segment, markers, and the keys there are.

    fsv:<tag>:<entity key>              a vector
    fsv:marker:<project>:<service>      what is kept of a service, as JSON (`fastserve.vectors.Marker`)
    fsv:services:<project>              a set: the services that have a marker
    fsv:epoch:<project>                 counts the changes of markers, so that a writer sees one by one GET

Whether a segment is newer is decided and acted upon inside one script, as for rows (see `redis_write`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from fastserve._core import EncodedVectors, WritePlan, encode_timestamp, field_id
from fastserve.stores.redis_wire import Connection
from fastserve.stores.redis_write import BYTES_AT_A_TIME, KEYS_PER_SCAN, escaped, keys_of
from fastserve.stores.vector_store import Markers

__all__ = ["MERGE_SCRIPT", "MERGE_SHA", "RedisVectors"]

# KEYS: the marker, then the vectors'.
# ARGV: 1 the marker that the caller knows | 2 seconds to live, "0" for ever | 3 the mode | 4 the bytes that all vectors
#       of the layout begin with | 5 u16 for each segment: bytes of one of its bitmaps | 6... the vectors
# Reply: {-1} if the marker is another by now, and nothing was done. Else the numbers, from 1, of the vectors that must
#       be made of the hash: where the segment of a row lacks fields, which the hash may have; where another row of the
#       same event time is stored; and where there was no vector to put it into.
#
# A segment is taken if it is newer. At the same event time the mode decides: "0", made of a written row: what is stored
# stays, as in the hash; if that is another row, only the hash knows which of the two came to it first. "1", read from
# the hash: it is taken unless it lacks more fields, for at one event time fields are only ever added. "2", read from a
# hash whose rows are overwritten whatever their time: it is taken in any case.
# A stored value that is no vector of this layout is replaced as a whole.
MERGE_SCRIPT = b"""\
local call, number, byte, sub = redis.call, struct.unpack, string.byte, string.sub
if call('GET', KEYS[1]) ~= ARGV[1] then return {-1} end
local ttl, mode, head, sizes, unresolved = ARGV[2], ARGV[3], ARGV[4], {}, {}
for at = 1, #ARGV[5], 2 do sizes[#sizes + 1] = number('<I2', ARGV[5], at) end
local n, first = #sizes, #head + 4 * #sizes

-- Returns the offsets at which the segments end; nothing if the text is no vector of this layout.
local function ends_of(text)
  if #text < first or sub(text, 1, #head) ~= head then return nil end
  local ends, before = {}, first
  for i = 1, n do
    local stop = number('<I4', text, #head + 4 * i - 3)
    if stop < before or stop > before and stop - before < 8 + 2 * sizes[i] then return nil end
    ends[i], before = stop, stop
  end
  if before == #text then return ends end
end

-- Above 0: the first is newer. Lua's numbers do not hold all of 64 bits.
local function compare(one, at, other, other_at)
  local low, high = number('<I4i4', one, at)
  local other_low, other_high = number('<I4i4', other, other_at)
  return high ~= other_high and high - other_high or low - other_low
end

-- How many fields the segment behind an offset lacks.
local function absent(text, at, size)
  local count = 0
  for i = at + 9 + size, at + 8 + 2 * size do
    local bits = byte(text, i)
    while bits > 0 do
      count = count + bits % 2
      bits = (bits - bits % 2) / 2
    end
  end
  return count
end

local function set(key, vector, stored)
  if ttl ~= '0' then return call('SET', key, vector, 'EX', ttl) end
  local left = stored and call('PTTL', key) or 0
  if left > 0 then call('SET', key, vector, 'PX', left) else call('SET', key, vector) end
end

local function merge(key, given, ends, stored, stored_ends)
  local parts, heads, changed, lacking = {}, {head}, false, false
  local at, stored_at, total = first, first, first
  for i = 1, n do
    local stop, stored_stop, take = ends[i], stored_ends[i], false
    if stop > at then
      local age = stored_stop == stored_at and 1 or compare(given, at + 1, stored, stored_at + 1)
      take = age > 0 or mode == '2'
      if take or age == 0 then
        local lacks = absent(given, at, sizes[i])
        if not take then
          local stored_lacks = absent(stored, stored_at, sizes[i])
          take = mode == '1' and lacks <= stored_lacks
          lacks = stored_lacks
          lacking = lacking or mode == '0' and sub(given, at + 1, stop) ~= sub(stored, stored_at + 1, stored_stop)
        end
        lacking = lacking or lacks > 0
      end
    end
    local part = take and sub(given, at + 1, stop) or sub(stored, stored_at + 1, stored_stop)
    changed, total = changed or take, total + #part
    parts[i], heads[i + 1] = part, struct.pack('<I4', total)
    at, stored_at = stop, stored_stop
  end
  if changed then set(key, table.concat(heads) .. table.concat(parts), true) end
  return lacking
end

-- In a build most vectors are not there yet: true for those, which are then, by one command.
local function created(key, given)
  if mode == '0' then return false end
  if ttl ~= '0' then return call('SET', key, given, 'NX', 'EX', ttl) end
  return call('SET', key, given, 'NX')
end

for r = 1, #KEYS - 1 do
  local key, given = KEYS[r + 1], ARGV[r + 5]
  if not created(key, given) then
    local stored, lacking = call('GET', key), nil
    local stored_ends = stored and ends_of(stored)
    if stored_ends then
      local ends = ends_of(given)
      if not ends then return {err = 'not a vector of the layout (row ' .. r .. ' of the call)'} end
      lacking = merge(key, given, ends, stored, stored_ends)
    else
      set(key, given, stored)
      lacking = n > 1 or mode == '0' and absent(given, first, sizes[1]) > 0
    end
    if lacking and mode == '0' then unresolved[#unresolved + 1] = r end
  end
end
return unresolved
"""
MERGE_SHA = hashlib.sha1(MERGE_SCRIPT, usedforsecurity=False).hexdigest().encode()

# KEYS: the marker, then the vectors'. ARGV: the marker, seconds to live, an empty vector. Returns {-1} if the marker is
# another by now, else the numbers, from 1, of the vectors that were not there.
RESERVE_SCRIPT = b"""\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {-1} end
local ttl = ARGV[2] ~= '0' and {'EX', ARGV[2]} or {}
local created = {}
for i = 2, #KEYS do
  if redis.call('SET', KEYS[i], ARGV[3], 'NX', unpack(ttl)) then created[#created + 1] = i - 1 end
end
return created
"""

# KEYS: marker, services, epoch. ARGV: the marker as it must be, the new one ("" for none), the service.
SWAP_SCRIPT = b"""\
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
  redis.call('SREM', KEYS[2], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[2])
  redis.call('SADD', KEYS[2], ARGV[3])
end
redis.call('INCR', KEYS[3])
return 1
"""

# KEYS: epoch, services. ARGV: what the key of a marker begins with. Returns the epoch, then services and markers in
# turn.
MARKERS_SCRIPT = b"""\
local found = {tonumber(redis.call('GET', KEYS[1]) or '0')}
for _, service in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local marker = redis.call('GET', ARGV[1] .. service)
  if marker then
    found[#found + 1] = service
    found[#found + 1] = marker
  end
end
return found
"""

# KEYS: the marker, then hashes. ARGV: the marker, field and clock of the vector, event time, the Values. Hashes that
# have a time to live keep it.
FEAST_SCRIPT = b"""\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('HSET', KEYS[i], ARGV[2], ARGV[i + 3], ARGV[3], ARGV[4])
  end
end
return 1
"""

TOUCH_SCRIPT = b"for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end"

KEYS_PER_CALL = 1000
FEAST_VECTORS_PER_CALL = 100

Over = Callable[[Callable[[Connection, float], Any]], Any]
"""Does a task over a connection, once more if that had ended while it lay idle, and returns what the task returns."""


class RedisVectors:
    """The `VectorStore` of a Redis.

    Args:
        over: runs a task over a connection of the store.
        timeout: `socket_timeout`, for every piece of a task.
        scan: whether the whole database may be walked to delete vectors.
        always_overwrites: see `VectorStore`.
    """

    keeps_feast = True
    builders = 2

    def __init__(
        self, over: Over, project: str, key_ttl_seconds: int, timeout: float, scan: bool, always_overwrites: bool
    ):
        self.always_overwrites = always_overwrites
        self.keys_expire = key_ttl_seconds > 0
        self._over, self._key_ttl, self._timeout, self._scan = over, key_ttl_seconds, timeout, scan
        self._project = name = project.encode()
        self._marker = b"fsv:marker:%b:" % name
        self._services = b"fsv:services:%b" % name
        self._epoch = b"fsv:epoch:%b" % name

    # --- markers ---

    def read_marker(self, service: str) -> bytes | None:
        """See `VectorStore.read_marker`."""
        found: bytes | None = self._call("GET", self._marker + service.encode())
        return found

    def read_markers(self) -> Markers:
        """See `VectorStore.read_markers`."""
        epoch, *found = self._call("EVAL", MARKERS_SCRIPT, 2, self._epoch, self._services, self._marker)
        return Markers(epoch, {name.decode(): marker for name, marker in zip(found[::2], found[1::2], strict=True)})

    def epoch(self) -> int:
        """See `VectorStore.epoch`."""
        return int(self._call("GET", self._epoch) or 0)

    def swap_marker(self, service: str, old: bytes | None, new: bytes | None) -> bool:
        """See `VectorStore.swap_marker`."""
        keys = (self._marker + service.encode(), self._services, self._epoch)
        return bool(self._call("EVAL", SWAP_SCRIPT, len(keys), *keys, old or b"", new or b"", service))

    def _call(self, command: str, *arguments: str | int | bytes) -> Any:
        return self._over(lambda connection, deadline: connection.call(deadline, command, *arguments))

    # --- vectors ---

    def reserve(
        self, service: str, marker: bytes, prefix: bytes, keys: Sequence[bytes], empty: bytes
    ) -> Sequence[int] | None:
        """See `VectorStore.reserve`."""
        created: list[int] = []
        for start in range(0, len(keys), KEYS_PER_CALL):
            page = [prefix + key for key in keys[start : start + KEYS_PER_CALL]]
            names = [self._marker + service.encode(), *page]
            found = self._call("EVAL", RESERVE_SCRIPT, len(names), *names, marker, self._key_ttl, empty)
            if found == [-1]:
                return None
            created += [start + number - 1 for number in found]
        return created

    def merge(
        self, service: str, marker: bytes, prefix: bytes, vectors: EncodedVectors, source: int
    ) -> Sequence[int] | None:
        """See `VectorStore.merge`."""
        key = self._marker + service.encode()

        def task(connection: Connection, _: float) -> None:
            vectors.rewind()
            self._load(connection)
            pieces = iter(
                lambda: vectors.commands(MERGE_SHA, prefix, key, marker, self._key_ttl, source, BYTES_AT_A_TIME),
                None,
            )
            connection.write(vectors, pieces, self._timeout)

        if vectors.n_rows:
            self._over(task)
        return None if vectors.marker_changed else vectors.unresolved

    def _load(self, connection: Connection) -> None:
        if MERGE_SHA not in connection.scripts:
            connection.call(time.monotonic() + self._timeout, "SCRIPT", "LOAD", MERGE_SCRIPT)
            connection.scripts.add(MERGE_SHA)

    def put_feast(
        self, service: str, marker: bytes, view: str, values: Sequence[tuple[bytes, bytes]], event_time: int
    ) -> bool:
        """See `VectorStore.put_feast`."""
        names = field_id(view, "vector"), b"_ts:" + view.encode()
        clock = encode_timestamp(event_time // 1_000_000, event_time % 1_000_000 * 1000)
        for start in range(0, len(values), FEAST_VECTORS_PER_CALL):
            page = values[start : start + FEAST_VECTORS_PER_CALL]
            keys = [self._marker + service.encode(), *(key + self._project for key, _ in page)]
            given = (marker, *names, clock, *(value for _, value in page))
            if not self._call("EVAL", FEAST_SCRIPT, len(keys), *keys, *given):
                return False
        return True

    def touch(self, prefix: bytes, keys: Sequence[bytes]) -> None:
        """See `VectorStore.touch`."""
        if self._key_ttl:
            for start in range(0, len(keys), KEYS_PER_CALL):
                page = [prefix + key for key in keys[start : start + KEYS_PER_CALL]]
                self._call("EVAL", TOUCH_SCRIPT, len(page), *page, self._key_ttl)

    def count(self, prefix: bytes) -> int:
        """See `VectorStore.count`."""
        return sum(len(page) for page in self._pages(prefix))

    def drop(self, prefixes: Iterable[bytes]) -> None:
        """See `VectorStore.drop`; with `full_scan_for_deletion` off, nothing is deleted."""
        wanted = tuple(prefixes)
        if not wanted or not self._scan:
            return
        for page in self._pages(wanted[0] if len(wanted) == 1 else b"fsv:"):
            if doomed := [key for key in page if key.startswith(wanted)]:
                self._call("UNLINK", *doomed)

    def _pages(self, prefix: bytes) -> Iterator[list[bytes]]:
        """Yield pages of the keys with a prefix; some may come twice. The whole database is walked."""
        cursor, pattern = b"0", escaped(prefix) + b"*"
        while True:
            cursor, page = self._call("SCAN", cursor, "MATCH", pattern, "COUNT", KEYS_PER_SCAN)
            yield page
            if cursor == b"0":
                return

    # --- hashes ---

    def estimate(self, plans: Sequence[WritePlan]) -> int:
        """See `VectorStore.estimate`: the keys of the whole database."""
        return int(self._call("DBSIZE"))

    def entity_keys(self, plans: Sequence[WritePlan]) -> Iterator[list[bytes]]:
        """See `VectorStore.entity_keys`."""
        plan = plans[0]
        cursor, size = b"0", len(plan.suffix)
        while True:
            cursor, keys = self._over(partial(_page_of_keys, plan, cursor))
            yield [key[: len(key) - size] for key in keys]
            if cursor == b"0":
                return


def _page_of_keys(plan: WritePlan, cursor: bytes, connection: Connection, deadline: float) -> tuple[bytes, list[bytes]]:
    return keys_of(connection, plan, cursor, deadline)
