"""Materialization on a Ray cluster, for sources that are beyond one machine.

Ray Data reads the row groups of a source in parallel, brings the rows of equal entity keys together, and runs, on
whichever machine has them, what a local run does: the latest row of each key, then the writer into the online store.
Every machine needs fastserve, a way to the source's files, and one to the online store.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastserve.config import Config
from fastserve.errors import ConfigError
from fastserve.latest import LatestRows, deal
from fastserve.materialize import Job, Loaded, Settings, Stopped
from fastserve.model import FeatureView
from fastserve.parquet import FileRows
from fastserve.plan import PlanOptions
from fastserve.precompute import Vectors
from fastserve.progress import Progress
from fastserve.stores import open_store
from fastserve.write import compile_writer, write_batches

__all__ = ["RayEngine"]

ROWS_PER_PART = 1 << 19
MAX_PARTS = 1 << 16
PART = "__part"
"""The column that says which rows are reduced together."""


class RayEngine:
    """Loads views with Ray Data.

    Args:
        config: the repository's; the machines of the cluster get it too.
    Raises:
        ConfigError: Ray is not installed.
    """

    def __init__(self, config: Config, options: PlanOptions, settings: Settings, progress: Progress):
        try:
            import ray.data  # noqa: F401
        except ImportError as exc:
            raise ConfigError(f"engine ray needs the package ray: pip install 'fastserve[ray]' ({exc})") from exc
        self._config, self._options, self._settings, self._progress = config, options, settings, progress

    def load(self, job: Job, stop: threading.Event) -> Loaded:
        """Load one view; what was begun runs to its end when `stop` is set. Raises as the local engine."""
        import ray

        if stop.is_set():
            raise Stopped("stopped")
        task = _Task(
            self._config,
            self._options,
            job.writer.view,
            job.rows,
            job.start,
            job.end,
            self._settings,
            _parts(job.rows.n_rows()),
        )
        told = self._progress.view(job.name)
        try:
            told.stage("reading and writing", job.rows.n_rows())
            n_rows = n_written = n_applied = 0
            pieces = job.rows.parts(job.start, job.end)
            for row in _dataset(task, pieces).iter_rows() if pieces else ():
                n_rows, n_written = n_rows + row["n_rows"], n_written + row["n_written"]
                n_applied += row["n_applied"]
                told.advance(row["n_rows"])
        except ray.exceptions.RayTaskError as exc:
            raise exc.cause if isinstance(exc.cause, Exception) else exc from None
        finally:
            told.close()
        return Loaded(job.name, job.start, job.end, n_rows, n_written, n_applied)


@dataclass(frozen=True)
class _Task:
    """What the machines of the cluster must know. The compiled plan stays at home: each makes its own."""

    config: Config
    options: PlanOptions
    view: FeatureView
    rows: FileRows
    start: datetime
    end: datetime
    settings: Settings
    parts: int

    def read(self, parts: Any) -> Any:
        """Yield the rows of some row groups, with the number of the part that each row belongs to."""
        import pyarrow as pa

        plan = compile_writer(self.view, self.options).plan
        for piece in parts["piece"].to_pylist():
            for batch in self.rows.batches(self.start, self.end, _unpack(piece)):
                for part, rows in deal(plan, batch, self.parts):
                    yield pa.Table.from_batches([rows]).append_column(PART, pa.repeat(pa.scalar(part), len(rows)))

    def write(self, rows: Any) -> Any:
        """Write the latest rows of one part."""
        import pyarrow as pa

        writer = compile_writer(self.view, self.options)
        store = open_store(self.config)
        written: list[int] = []
        created = bool(writer.form.created)
        try:
            with LatestRows(writer.plan, created, self.settings.budget) as latest:
                for batch in rows.drop_columns([PART]).to_batches():
                    latest.add(batch)
                n_applied = write_batches(
                    Vectors(store, self.options, self.config.fastserve.vector_format),
                    writer,
                    latest.rows(),
                    chunk_rows=self.settings.chunk_rows,
                    on_written=written.append,
                )
        finally:
            store.close()
        return pa.table({"n_rows": [rows.num_rows], "n_written": [sum(written)], "n_applied": [n_applied]})


def _dataset(task: _Task, pieces: list[Any]) -> Any:
    import pickle

    import pyarrow as pa
    import ray.data

    # One block for each row group, so that they are read in parallel.
    found = ray.data.from_arrow([pa.table({"piece": pa.array([pickle.dumps(piece)])}) for piece in pieces])
    dealt = found.map_batches(task.read, batch_format="pyarrow", batch_size=None)
    return dealt.groupby(PART, num_partitions=min(task.parts, 2 * len(pieces))).map_groups(
        task.write, batch_format="pyarrow"
    )


def _parts(n_rows: int) -> int:
    """Return in how many parts so many rows are reduced: a power of two."""
    return int(min(1 << max(n_rows // ROWS_PER_PART, 3).bit_length(), MAX_PARTS))


def _unpack(piece: bytes) -> Any:
    import pickle

    return pickle.loads(piece)
