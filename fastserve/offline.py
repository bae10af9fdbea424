"""Rows -> the Parquet file of a feature view's source."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve.arrow import as_arrow, cast_time
from fastserve.errors import NotSupportedError, RequestError, SourceError, WriteError
from fastserve.model import FeatureView
from fastserve.parquet import resolve
from fastserve.sources import columns_of

__all__ = ["FileChange", "prepend_rows"]


@dataclass(frozen=True)
class FileChange:
    """New contents of a Parquet file, which is replaced as a whole. Made by `prepend_rows`."""

    view: str
    path: Path
    table: Any

    def write(self) -> None:
        """Replace the file. Raises SourceError; the file is then as it was."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.new")
        try:
            pq.write_table(self.table, aside)
            aside.replace(self.path)
        except (OSError, pa.ArrowInvalid) as exc:
            raise _unusable(self.view, self.path, exc) from exc
        finally:
            aside.unlink(missing_ok=True)


def prepend_rows(view: FeatureView, rows: Any, repo_path: Path, reorder_columns: bool = True) -> FileChange:
    """Put rows before those of the view's Parquet file; nothing is written yet.

    Args:
        rows: what `sources.columns_of` takes, with exactly the columns of the file.
        reorder_columns: False refuses columns in another order than the file's.
    Raises:
        WriteError: the columns are not those of the file, or their types are others.
        SourceError: the file cannot be read.
        NotSupportedError: the source is not one local Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = _path(view, repo_path)
    try:
        old = pq.ParquetFile(path).read()
        new = _table(columns_of(rows), old.schema, view.name, reorder_columns)
        return FileChange(view.name, path, pa.concat_tables([new, old]))
    except (OSError, pa.ArrowInvalid) as exc:
        raise _unusable(view.name, path, exc) from exc


def _unusable(view: str, path: Path, exc: Exception) -> SourceError:
    return SourceError(f"feature view {view}: {path}: {' '.join(str(exc).split())}")


def _path(view: FeatureView, repo_path: Path) -> Path:
    source = view.batch_source
    if source is None:
        raise RequestError(f"feature view {view.name} has no batch source to write rows to")
    filesystem, path = resolve(source, repo_path) if source.kind == "file" else (source.kind, "")
    if filesystem is not None or source.file_format != "parquet" or Path(path).is_dir():
        reason = "rows can be written to a single local Parquet file only"
        raise NotSupportedError(f"feature view {view.name}: source {source.name}: {reason}")
    return Path(path)


def _table(columns: dict[str, Any], schema: Any, view: str, reorder_columns: bool) -> Any:
    """Return the rows with the columns and types of the file."""
    import pyarrow as pa

    missing = [name for name in schema.names if name not in columns]
    extra = [name for name in columns if name not in schema.names]
    if missing or extra or (not reorder_columns and list(columns) != schema.names):
        reason = "the columns must be those of the source's file"
        raise WriteError(view, f"{reason} ({', '.join(schema.names)}); missing: {missing}, extra: {extra}")
    return pa.table([_typed(columns[field.name], field, view) for field in schema], schema=schema)


def _typed(cells: Any, field: Any, view: str) -> Any:
    import pyarrow as pa

    try:
        if pa.types.is_timestamp(field.type):
            return cast_time(cells, f"column {field.name!r}").cast(field.type, safe=False)
        arrow = as_arrow(cells)
        return pa.array(cells, field.type, from_pandas=True) if arrow is None else arrow.cast(field.type)
    except (pa.ArrowException, TypeError, ValueError) as exc:
        raise WriteError(view, f"column {field.name!r}: {' '.join(str(exc).split())}") from exc
