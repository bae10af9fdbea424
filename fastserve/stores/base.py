"""What an online store is to the rest of fastserve."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from fastserve._core import Batch, EncodedRows, WritePlan

__all__ = ["Store"]


class Store(Protocol):
    """Fills batches and takes rows. One object serves all threads."""

    def read(self, batch: Batch) -> None:
        """Read everything that the batch asks for.

        Raises:
            StoreError: the store is out of reach, or answered with an error; the batch is then of no use.
            StoreTimeoutError: it did not answer within the deadline.
        """

    def write(self, rows: EncodedRows, key_ttl_seconds: int | None = None) -> int:
        """Write rows and return how many were applied.

        A row is applied if nothing is stored under its entity key, or something strictly older; at an equal event time
        it only fills in the features that are absent, and counts if there were any. That is decided and done in one
        step in the store, whatever other writers do.

        Args:
            rows: written from the first one on, also if they were written before.
            key_ttl_seconds: how long Redis keeps the keys that are written, 0 for ever; None is as configured.
        Raises:
            StoreError: some rows may have been applied, none of them in part; writing all of them again is safe.
            StoreTimeoutError: likewise.
        """

    def create(self, plans: Iterable[WritePlan]) -> None:
        """Make room for feature views; one that is there already keeps its rows."""

    def drop(self, plans: Iterable[WritePlan]) -> None:
        """Delete everything that is stored of feature views. Others', and other projects', rows stay."""

    def teardown(self, plans: Iterable[WritePlan]) -> None:
        """Delete everything that is stored of the project; `plans` are all of its views."""

    def close(self) -> None:
        """Close all connections. A later read opens new ones."""
