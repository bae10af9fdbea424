"""The latest row of each entity key, out of a stream of batches and in bounded memory.

    with LatestRows(plan, created=True) as latest:
        for batch in batches:
            latest.add(batch)
        for batch, rows in latest.rows():       # the numbers of those that are the latest
            ...

Batches are held and, when they pass the budget, reduced to their latest rows. If that does not help, since most keys
are distinct, they are dealt out by a hash of the key to temporary files, each of which is then finished by itself, and
dealt out again if it is still too large. The files are gone when the block ends, however it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from fastserve._core import WritePlan, key_hashes, latest_rows
from fastserve.errors import EncodeError, WriteError

__all__ = ["BUDGET_BYTES", "LatestRows", "deal"]

BUDGET_BYTES = 48 << 20
"""Of Arrow data that is held; reducing it takes about twice as much again for a moment."""

PARTS = 32
BITS = PARTS.bit_length() - 1
MAX_DEALS = 64 // BITS


class LatestRows:
    """Collects the latest row of each key; a context manager.

    Args:
        plan: of the view; batches are as its `encode_rows` takes them.
        created: whether the batches end with the time of creation, which decides between equal event times.
        budget: bytes of Arrow data to hold in memory.
        folder: for the temporary files; by default the system's.
        deals: how many times the rows were dealt out before.
    """

    def __init__(
        self, plan: WritePlan, created: bool, budget: int = BUDGET_BYTES, folder: Path | None = None, deals: int = 0
    ):
        self._plan = plan
        self._created = created
        self._budget = budget
        self._folder = folder
        self._deals = deals
        self._schema: Any = None
        self._held: list[Any] = []
        self._found: tuple[Any, bytes] | None = None
        self._bytes = 0
        self._files: _Files | None = None

    def __enter__(self) -> LatestRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._files is not None:
            self._files.remove()

    def add(self, batch: Any) -> None:
        """Take one more RecordBatch. Raises WriteError: a join key or event time is null."""
        self._schema = self._schema or batch.schema
        if batch.schema != self._schema:  # of files that differ in what is equal to us, such as string and large_string
            batch = _as_one([batch], self._schema)
        if self._files is not None:
            self._files.add(batch)
            return
        self._held.append(batch)
        self._bytes += batch.nbytes
        if self._bytes > self._budget:
            self._reduce()
            if self._bytes > self._budget // 2 and self._deals < MAX_DEALS:
                self._spill()

    def _reduce(self) -> None:
        batch = _as_one(self._held, self._schema)
        rows = _array(self._latest(batch), "int64")
        self._held = [batch if len(rows) == batch.num_rows else batch.take(rows)]
        self._bytes = self._held[0].nbytes

    def _latest(self, batch: Any) -> bytes:
        with _naming(self._plan):
            return latest_rows(self._plan, batch, self._created)

    def _spill(self) -> None:
        self._files = _Files(self._plan, self._schema, self._folder, self._deals)
        for batch in self._held:
            self._files.add(batch)
        self._held = []

    def count(self) -> int:
        """Return how many rows `rows` has, or at most, if they went to files; nothing can be added any more."""
        if self._files is not None:
            return self._files.n_rows
        found = self._find()
        return len(found[1]) // 8 if found else 0

    def _find(self) -> tuple[Any, bytes] | None:
        """Return the latest rows of what is held."""
        if self._held:
            batch = _as_one(self._held, self._schema)
            self._held = []
            self._found = batch, self._latest(batch)
        return self._found

    def rows(self) -> Iterator[tuple[Any, bytes]]:
        """Yield (batch, int64 numbers of rows in it), each key once; nothing can be added any more."""
        if self._files is None:
            if found := self._find():
                yield found
            return
        for path in self._files.finish():
            with LatestRows(self._plan, self._created, self._budget, self._folder, self._deals + 1) as part:
                for batch in _read(path):
                    part.add(batch)
                yield from part.rows()
            path.unlink()


class _Files:
    """The temporary files that rows are dealt out to."""

    def __init__(self, plan: WritePlan, schema: Any, folder: Path | None, deals: int):
        import pyarrow as pa

        self._plan = plan
        self._shift = deals * BITS
        self.n_rows = 0
        import tempfile

        self._folder = Path(tempfile.mkdtemp(prefix="fastserve-", dir=folder))
        self._paths = [self._folder / f"{part:02}.arrow" for part in range(PARTS)]
        self._writers = [pa.ipc.new_file(str(path), schema) for path in self._paths]

    def add(self, batch: Any) -> None:
        self.n_rows += batch.num_rows
        for part, rows in deal(self._plan, batch, PARTS, self._shift):
            self._writers[part].write_batch(rows)

    def finish(self) -> list[Path]:
        for writer in self._writers:
            writer.close()
        return self._paths

    def remove(self) -> None:
        import shutil

        shutil.rmtree(self._folder, ignore_errors=True)


def deal(plan: WritePlan, batch: Any, parts: int, shift: int = 0) -> Iterator[tuple[int, Any]]:
    """Split a batch by a hash of the entity key: yield (part, its rows in their order) of those that have rows.

    Args:
        parts: a power of two, at most 65,536.
        shift: how many of the hash's bits to pass over, so that rows of one part can be dealt out again.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    with _naming(plan):
        hashes = _array(key_hashes(plan, batch), "uint64")
    by, mask = pa.scalar(shift, pa.uint64()), pa.scalar(parts - 1, pa.uint64())
    numbers = pc.bit_wise_and(pc.shift_right(hashes, by), mask).cast("uint8" if parts <= 256 else "uint16")
    sorted_rows = batch.take(pc.array_sort_indices(numbers))
    start = 0
    for count in sorted(pc.value_counts(numbers).to_pylist(), key=lambda found: found["values"]):
        yield count["values"], sorted_rows.slice(start, count["counts"])
        start += count["counts"]


@contextmanager
def _naming(plan: WritePlan) -> Iterator[None]:
    """Let errors of the core say which view they are of."""
    try:
        yield
    except EncodeError as exc:
        raise WriteError(plan.view, str(exc)) from exc


def _array(buffer: Any, dtype: str) -> Any:
    import pyarrow as pa

    data = pa.py_buffer(buffer)
    return pa.Array.from_buffers(pa.type_for_alias(dtype), data.size // 8, [None, data])


def _as_one(batches: list[Any], schema: Any) -> Any:
    """Return batches as one, in this schema."""
    import pyarrow as pa

    if len(batches) == 1 and batches[0].schema == schema:
        return batches[0]
    table = pa.concat_tables([pa.Table.from_batches([batch]).cast(schema) for batch in batches]).combine_chunks()
    return table.to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], schema=schema)


def _read(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    # Not mapped: the pages of a mapped file count as memory of the process.
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)
