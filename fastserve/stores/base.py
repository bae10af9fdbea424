"""What an online store is to the rest of fastserve."""

from __future__ import annotations

from typing import Protocol

from fastserve._core import Batch

__all__ = ["Store"]


class Store(Protocol):
    """Fills batches. One object serves all threads."""

    def read(self, batch: Batch) -> None:
        """Read everything that the batch asks for.

        Raises:
            StoreError: the store is out of reach, or answered with an error; the batch is then of no use.
            StoreTimeoutError: it did not answer within the deadline.
        """

    def close(self) -> None:
        """Close all connections. A later read opens new ones."""
