"""What a store of precomputed vectors is to the rest of fastserve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fastserve._core import EncodedVectors, WritePlan

__all__ = ["FROM_HASHES", "FROM_ROWS", "OVERWRITING", "Markers", "VectorStore", "vector_store"]

FROM_ROWS, FROM_HASHES, OVERWRITING = 0, 1, 2
"""Where vectors to be merged come from: rows as they were given; what is stored; or that, whatever its event time."""


@dataclass(frozen=True)
class Markers:
    """What is kept of all services of a project.

    Args:
        epoch: differs as soon as one of the markers does.
        found: service -> marker.
    """

    epoch: int
    found: Mapping[str, bytes]


class VectorStore(Protocol):
    """Keeps precomputed vectors of one project, and what `fastserve.vectors` says of them: markers.

    All methods raise StoreError when the store fails.
    """

    always_overwrites: bool
    """Whether rows are written whatever is stored."""

    keeps_feast: bool
    """Whether Feast reads vectors from this store."""

    builders: int
    """How many threads may build vectors at a time."""

    keys_expire: bool
    """Whether what is written has a time to live."""

    def read_marker(self, service: str) -> bytes | None:
        """Return the marker of a service."""

    def read_markers(self) -> Markers:
        """Return all markers."""

    def epoch(self) -> int:
        """Return what `Markers.epoch` is now."""

    def swap_marker(self, service: str, old: bytes | None, new: bytes | None) -> bool:
        """Replace a marker if it still is `old`, and return whether it was; None is no marker."""

    def reserve(
        self, service: str, marker: bytes, prefix: bytes, keys: Sequence[bytes], empty: bytes
    ) -> Sequence[int] | None:
        """Give entity keys without a vector an empty one.

        Args:
            marker: nothing is done unless this is what is stored.
            empty: the vector of an entity of which nothing is stored.
        Returns:
            The indexes of the keys that had none; None if the marker is another by now.
        """

    def merge(
        self, service: str, marker: bytes, prefix: bytes, vectors: EncodedVectors, source: int
    ) -> Sequence[int] | None:
        """Merge vectors into those in the store, segment by segment: the newer one stays.

        Args:
            marker: nothing is done unless this is what is stored.
            prefix: what the keys of the vectors begin with.
            source: FROM_ROWS, FROM_HASHES or OVERWRITING.
        Returns:
            The rows whose vectors must be made of what is stored of their views, since more is known there than what
            was given; None if the marker is another by now, so that not all were merged.
        """

    def put_feast(
        self, service: str, marker: bytes, view: str, values: Sequence[tuple[bytes, bytes]], event_time: int
    ) -> bool:
        """Write vectors in Feast's format, whatever is stored; False if the marker is another, so that not all were.

        Args:
            view: the name by which Feast stores them.
            values: entity key and serialised Value; keys of which nothing else is stored are passed over.
            event_time: in microseconds.
        """

    def touch(self, prefix: bytes, keys: Sequence[bytes]) -> None:
        """Let vectors live on as long as what is stored of their entity keys, of which something was just written."""

    def count(self, prefix: bytes) -> int:
        """Return about how many keys begin with a prefix; everything in the store is walked."""

    def drop(self, prefixes: Iterable[bytes]) -> None:
        """Delete all keys that begin with one of these."""

    def estimate(self, plans: Sequence[WritePlan]) -> int:
        """Return how many entity keys there may be, at most."""

    def entity_keys(self, plans: Sequence[WritePlan]) -> Iterator[list[bytes]]:
        """Yield pages of the entity keys of which something may be stored; some may come twice.

        Args:
            plans: of the views, which have the same join keys.
        """


def vector_store(store: object) -> VectorStore | None:
    """Return where a store keeps vectors; None for stores that keep none."""
    found: VectorStore | None = getattr(store, "vectors", None)
    return found
