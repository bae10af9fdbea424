"""A serialised registry with permissions that are damaged: the rest of it.

Nothing here is decided by permissions, so a damaged one must not keep features from being served. It is kept as it is:
Feast, which does decide by them, must go on refusing what it cannot read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from fastserve.registry import schema_pb2 as pb

__all__ = ["parse_registry"]

logger = logging.getLogger(__name__)

PERMISSIONS = pb.Registry.DESCRIPTOR.fields_by_name["permissions"].number << 3 | 2
"""The tag before each."""


def parse_registry(data: bytes) -> tuple[pb.Registry, bytes]:
    """Return a registry without its damaged permissions, and these: serialised fields, to be put behind the message.

    Each is told by a warning. Raises DecodeError if anything else is damaged.
    """
    try:
        return pb.Registry.FromString(data), b""
    except DecodeError:
        places = list(_damaged_permissions(data))
        if not places:
            raise
    ends = [0, *(end for _, end in places)]
    starts = [*(start for start, _ in places), len(data)]
    message = pb.Registry.FromString(b"".join(data[a:b] for a, b in zip(ends, starts, strict=True)))
    logger.warning("damaged permissions in the registry: %s; left out, nothing is decided by them", len(places))
    return message, b"".join(data[start:end] for start, end in places)


def _damaged_permissions(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of the fields; all of them are length-delimited in a registry."""
    at = 0
    while at < len(data):
        start = at
        tag, at = _varint(data, at)
        if tag & 7 != 2:
            raise DecodeError("a field of another kind")
        size, at = _varint(data, at)
        body, at = data[at : at + size], at + size
        if at > len(data):
            raise DecodeError("cut off")
        if tag == PERMISSIONS and not _is_permission(body):
            yield start, at


def _is_permission(body: bytes) -> bool:
    try:
        pb.Permission.FromString(body)
    except DecodeError:
        return False
    return True


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at
    raise DecodeError("cut off")
