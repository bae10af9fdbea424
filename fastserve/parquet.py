"""File sources: Parquet files and (hive-partitioned) folders of them, on any file system that pyarrow knows.

    rows = FileRows(form, source, repo_path)
    for batch in rows.batches(start, end):      # of `sources.cast_batch`; both ends of the window are included
        ...

Files are streamed: only the columns that the view needs, only the row groups that the window touches, a few batches
ahead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from fastserve.arrow import cast_time
from fastserve.errors import NotSupportedError, SourceError, WriteError
from fastserve.model import DataSource
from fastserve.sources import RowFormat, cast_batch, check_batch

__all__ = ["BATCH_ROWS", "FileRows", "resolve"]

BATCH_ROWS = 1 << 16
BATCH_CELLS = 1 << 20
"""Of wide views batches have fewer rows, or they would be large."""

STREAM_BYTES = 1 << 20

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class FileRows:
    """The rows of a view in its file source. It can be pickled, and read in another process.

    Args:
        form: what the rows are to be.
        source: a file source.
        repo_path: where its relative path starts.
    Raises:
        SourceError: there is no such file or folder, it cannot be read as Parquet, or it lacks a column.
        NotSupportedError: the source is not of Parquet files.
    """

    def __init__(self, form: RowFormat, source: DataSource, repo_path: Path):
        self.form = form
        self.place = f"feature view {form.view}: source {source.name} ({source.path})"
        if source.kind != "file" or source.file_format != "parquet":
            kind = source.kind if source.kind != "file" else source.file_format
            raise NotSupportedError(f"{self.place}: materializing from a {kind} source is not supported; use Parquet")
        try:
            self.dataset = open_dataset(source, repo_path)
        except (OSError, ValueError) as exc:  # pyarrow's errors are of these kinds
            raise self._failed(exc) from exc
        self.columns = self._columns()

    def _failed(self, exc: Exception) -> SourceError:
        if isinstance(exc, FileNotFoundError):
            return SourceError(f"{self.place}: no such file or folder")
        return SourceError(f"{self.place}: cannot be read: {' '.join(str(exc).split())}")

    def _columns(self) -> list[str]:
        """The names of the columns in the files."""
        known = set(self.dataset.schema.names)
        raw = {name: column for column, name in self.form.field_mapping.items() if column in known}
        columns = [raw.get(name, name) for name in self.form.required]
        missing = [name for name in columns if name not in known]
        if missing:
            listing = ", ".join(self.dataset.schema.names)
            raise SourceError(f"{self.place}: missing columns: {', '.join(missing)}; it has: {listing}")
        self.event_time = raw.get(self.form.event_time, self.form.event_time)
        return list(dict.fromkeys(columns))

    def n_rows(self) -> int:
        """Return the number of rows, in the window or not, from the files' footers."""
        try:
            return int(self.dataset.count_rows())
        except (OSError, ValueError) as exc:
            raise self._failed(exc) from exc

    def batches(self, start: datetime, end: datetime, part: Any | None = None) -> Iterator[Any]:
        """Yield the rows of a window, as batches of `form`.

        Args:
            start, end: aware; both are in the window.
            part: one of `parts()`; all of the files without.
        Raises:
            SourceError: a file is damaged, or went away.
            WriteError: a value is not of its type, or a join key is null.
        """
        for file in [part] if part is not None else self._files(start, end):
            for found in self._read(file):
                columns = self._within(self._columns_of(file, found), start, end)
                n_rows = len(columns[self.event_time])
                if n_rows:
                    batch = cast_batch(columns, self.form, n_rows)
                    self._check(batch)
                    yield batch

    def parts(self, start: datetime, end: datetime) -> list[Any]:
        """Return pieces that can be read apart from one another: the row groups that the window touches."""
        try:
            return [part for file in self._files(start, end) for part in file.split_by_row_group()]
        except (OSError, ValueError) as exc:
            raise self._failed(exc) from exc

    def _files(self, start: datetime, end: datetime) -> Iterator[Any]:
        """Yield the files, less the row groups whose statistics say that nothing of the window is in them."""
        import pyarrow.dataset as ds

        bounds = _bounds(self.dataset.schema.field(self.event_time).type, start, end)
        column = ds.field(self.event_time)
        try:
            for file in self.dataset.get_fragments():
                if bounds is not None and self.event_time in file.physical_schema.names:
                    file = file.subset((column >= bounds[0]) & (column <= bounds[1]), schema=self.dataset.schema)
                if file.row_groups:
                    yield file
        except (OSError, ValueError) as exc:
            raise self._failed(exc) from exc

    def _read(self, file: Any) -> Iterator[Any]:
        """Yield the needed columns of a file's row groups, a batch at a time.

        The dataset's own scanner decodes whole row groups, and some ahead: hundreds of megabytes.
        """
        import pyarrow.parquet as pq

        try:
            with file.open() as stream, pq.ParquetFile(stream, buffer_size=STREAM_BYTES, pre_buffer=False) as parquet:
                names = [name for name in self.columns if name in parquet.schema_arrow.names]
                groups = [group.id for group in file.row_groups]
                n_rows = max(min(BATCH_ROWS, BATCH_CELLS // max(len(names), 1)), 1 << 10)
                yield from parquet.iter_batches(n_rows, row_groups=groups, columns=names)
        except (OSError, ValueError) as exc:
            raise self._failed(exc) from exc

    def _columns_of(self, file: Any, batch: Any) -> dict[str, Any]:
        """Add what is not in the file itself: parts of its path, and columns that only other files have."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        found = dict(zip(batch.schema.names, batch.columns, strict=True))
        of_path = ds.get_partition_keys(file.partition_expression)
        for name in self.columns:
            if name not in found:
                constant = pa.scalar(of_path.get(name), self.dataset.schema.field(name).type)
                found[name] = pa.repeat(constant, batch.num_rows)
        return found

    def _within(self, columns: dict[str, Any], start: datetime, end: datetime) -> dict[str, Any]:
        """Keep the rows of the window; those without event time are not in it."""
        import pyarrow.compute as pc

        times = columns[self.event_time]
        bounds = _bounds(times.type, start, end)
        if bounds is None:  # texts or numbers
            times = self._times(times)
            bounds = _bounds(times.type, start, end)
        inside = pc.and_(pc.greater_equal(times, bounds[0]), pc.less_equal(times, bounds[1])).fill_null(False)
        if pc.all(inside).as_py():
            return columns
        return {name: column.filter(inside) for name, column in columns.items()}

    def _times(self, cells: Any) -> Any:
        try:
            return cast_time(cells, f"event time {self.event_time!r}")
        except ValueError as exc:
            raise WriteError(self.form.view, f"{exc}, in {self.place.partition(': ')[2]}") from exc

    def _check(self, batch: Any) -> None:
        try:
            check_batch(batch, self.form)
        except WriteError as exc:
            raise WriteError(exc.view, f"{exc.reason}, in {self.place.partition(': ')[2]}") from exc


# --- the window ------------------------------------------------------------------------------------------------------


def _bounds(dtype: Any, start: datetime, end: datetime) -> Any:
    """Return the first and the last value of a type of times that are in the window; None for other types."""
    import pyarrow as pa

    if pa.types.is_timestamp(dtype):
        unit = _PER_SECOND[dtype.unit]
        first, last = (_clipped(_micros(time)) * unit for time in (start, end))
        return tuple(pa.scalar(ticks, pa.int64()).cast(dtype) for ticks in (-(-first // 10**6), last // 10**6))
    if pa.types.is_date(dtype):
        day = 86_400 * 10**6
        first, last = -(-_micros(start) // day), _micros(end) // day
        return tuple(pa.scalar(date(1970, 1, 1) + timedelta(days=days), dtype) for days in (first, last))
    return None


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _clipped(micros: int) -> int:
    """Keep to the years that nanoseconds have room for: 1678 to 2262."""
    return min(max(micros, -9_200_000_000_000_000), 9_200_000_000_000_000)


# --- opening ---------------------------------------------------------------------------------------------------------


def open_dataset(source: DataSource, repo_path: Path) -> Any:
    """Return the pyarrow Dataset of a file source: a file, a folder, or a URI such as `s3://bucket/folder`."""
    import pyarrow.dataset as ds

    filesystem, path = resolve(source, repo_path)
    if filesystem is None and not Path(path).exists():
        raise FileNotFoundError(path)
    found = ds.dataset(path, format="parquet", filesystem=filesystem, partitioning="hive")
    if not found.files:
        raise ValueError("the folder has no Parquet files")
    return found


def read_schema(source: DataSource, repo_path: Path) -> Any:
    """Return the pyarrow Schema of a file source. Raises as `open_dataset`."""
    import pyarrow.parquet as pq

    filesystem, path = resolve(source, repo_path)
    if filesystem is None and Path(path).is_file():
        return pq.read_schema(path)  # pyarrow.dataset would load pandas, which takes longer than all of an apply
    return open_dataset(source, repo_path).schema


def resolve(source: DataSource, repo_path: Path) -> tuple[Any, str]:
    """Return file system (None: the local one) and path."""
    from pyarrow import fs

    if source.s3_endpoint_override and source.path.startswith("s3://"):
        filesystem = fs.S3FileSystem(endpoint_override=source.s3_endpoint_override)
        return filesystem, source.path.removeprefix("s3://")
    # One letter before the colon is a Windows drive.
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source.path):
        filesystem, path = fs.FileSystem.from_uri(source.path)
        return filesystem, str(path)
    return None, str(repo_path / source.path)
