"""Damaged permissions in the message of a registry."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.message import DecodeError

from fastserve.registry import schema_pb2 as pb
from fastserve.registry.damage import parse_registry
from fastserve.registry.file import FileRegistry
from tests import goldens

BANK = (goldens.BANK / "data/registry.db").read_bytes()
DAMAGED = b"\x82\x01\x02\xff\xff"
SOUND = b"\x82\x01\x05\n\x03\n\x01p"


def test_the_rest_is_read() -> None:
    message, damaged = parse_registry(DAMAGED + BANK + SOUND + DAMAGED)
    assert damaged == DAMAGED + DAMAGED
    assert message == pb.Registry.FromString(BANK + SOUND)
    assert parse_registry(BANK) == (pb.Registry.FromString(BANK), b"")


@pytest.mark.parametrize("end", [b"\x3a\x02\xff\xff", b"\x82", b"\x82\x01\x09\xff", b"\x08\x01\x82", b"\xff" * 11])
def test_other_damage_is_an_error(end: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_registry(BANK + DAMAGED + end)


def test_it_is_left_out_of_a_file_and_stays_in_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "registry.db"
    path.write_bytes(BANK + DAMAGED + SOUND)
    registry = FileRegistry(str(path), "bank")
    assert [found.spec.name for found in registry.load().message.permissions] == ["p"]
    assert "damaged permissions in the registry: 1" in caplog.text

    def describe(message: pb.Registry) -> None:
        message.entities[0].spec.description = "changed"

    assert registry.update(describe).entities
    assert path.read_bytes().endswith(DAMAGED)
    assert [found.spec.name for found in registry.load().message.permissions] == ["p"]
