"""Requests whose like was there before: what a Lane takes is read as a JSON parser reads it, and all else is left."""

from __future__ import annotations

import itertools
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from fastserve._core import (
    Batch,
    Counter,
    KeyGroup,
    KnownHead,
    Lane,
    LaneRead,
    PlanMeter,
    ReadMeter,
    ReadPlan,
    StoredView,
    StoreRead,
    compact_json,
    json_response,
    take_replies,
)
from tests.conftest import Rand
from tests.core.requests import JOIN_KEY, Request, make_plan, typical
from tests.reference import INT64, STRING, Feature

PLAN = make_plan([Feature("v", "f", "f", STRING)])
NUMBERS = ReadPlan(
    [KeyGroup((JOIN_KEY,), (JOIN_KEY,), (INT64,), [StoredView("v", ["f"], 0)], "bank")],
    PLAN.outputs,
    join_keys={JOIN_KEY: INT64},
    required={JOIN_KEY: ["v"]},
)
EPOCH = object()
DEFAULTS = [(b"date", b"today")]


@dataclass
class Wanted:
    """A request, as the ordinary way reads it."""

    compact: bool = False
    include_feature_view_version_metadata: bool = False
    entities: dict[str, list[Any]] = field(default_factory=dict)


class Protocol:
    """A connection, which keeps what it is told."""

    client_address = "1.2.3.4:5"

    def __init__(self) -> None:
        self.told: list[Any] = []

    def filled(self, read: LaneRead, exc: BaseException | None) -> None:
        self.told.append((read, exc))


class Asker:
    """A Lane that has seen one request, and asks it others.

    Args:
        before, behind: what stands around the entities.
    """

    def __init__(
        self,
        before: bytes = b'{"features": ["v:f"], "entities": ',
        behind: bytes = b"}",
        plan: Any = PLAN,
        form: str | None = "json",
        most: int = 0,
        **wanted: bool,
    ):
        self.before, self.behind, self.form = before, behind, form
        self.heads: dict[bytes, KnownHead] = {}
        self.counts = bytearray(16)
        meter = ReadMeter(lambda plan, owner: PlanMeter(plan, owner, None, []), in_flight=Counter(self.counts, 0))
        self.lane = Lane(self.heads, meter, Counter(self.counts, 1), "/read", "p", itertools.count(255), most)
        learned = b'{"%b": ["x"]}' % JOIN_KEY.encode()
        self.lane.learn(before + learned + behind, learned, Wanted(**wanted), plan, EPOCH)

    def request(self, entities: bytes) -> bytes:
        body = self.before + entities + self.behind
        raw = b"POST /read HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.heads.setdefault(raw, KnownHead(raw, "head", len(body), self.form))
        return raw + body

    def ask(self, entities: bytes, epoch: object = EPOCH) -> LaneRead | None:
        return self.lane.begin(Protocol(), self.request(entities), epoch)


def entities(*values: object) -> bytes:
    return json.dumps({JOIN_KEY: values}).encode()


# --- what is taken ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        entities("C1"),
        entities("C1", "C2", ""),
        json.dumps({JOIN_KEY: ["é", "日本", "\U0001f600"]}, ensure_ascii=False).encode(),
        b' {"customer_id":["a","b"]}'.strip(),
        b'{ "customer_id"\t:\r\n[ "a" ,\n"b" ] }',
    ],
)
def test_plain_entities_are_taken(text: bytes) -> None:
    read = Asker().ask(text)
    assert read is not None
    assert read.columns == json.loads(text)
    assert read.batch.n_rows == len(json.loads(text)[JOIN_KEY])


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b'{"customer_id": []}',
        b'{"customer_id": ["a" "b"]}',
        b'{"customer_id": ["a",]}',
        b'{"customer_id": ["a"],}',
        b'{"customer_id": ["a"]',
        b'{"customer_id": ["a"]}}',
        b'{"customer_id": ["a"]} x',
        b'{"customer_id": ["a]}',
        b'{"customer_id": ["a\\u0041"]}',
        b'{"customer_id": ["a\n"]}',
        b'{"customer_id": ["\xff"]}',
        b'{"customer_id": ["\xed\xa0\x80"]}',
        b'{"customer_id": [null]}',
        b'{"customer_id": [1, "a"]}',
        b'{"customer_id": ["a", 1]}',
        b'{"customer_id": [["a"]]}',
        b'{"customer_id": "a"}',
        b'{"customer_id": {"a": 1}}',
        b'{"other": ["a"]}',
        b'{"customer_id": ["a"], "other": ["a"]}',
        b'{"customer_id": ["a"], "customer_id": ["b"]}',
        b'["a"]',
        b"",
    ],
)
def test_all_else_is_left(text: bytes) -> None:
    asker = Asker()
    assert asker.ask(text) is None
    assert asker.counts[0] == 0  # none is in flight


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", 0),
        (b"7", 7),
        (b"-12", -12),
        (b"999999999999999999", 10**18 - 1),
        (b"1000000000000000000", None),
        (b"-0", None),
        (b"01", None),
        (b"1.0", None),
        (b"1e3", None),
        (b"+1", None),
        (b"-", None),
    ],
)
def test_numbers(text: bytes, number: int | None) -> None:
    read = Asker(plan=NUMBERS).ask(b'{"customer_id": [%b]}' % text)
    assert (None if read is None else read.columns) == (None if number is None else {JOIN_KEY: [number]})


def test_broken_texts_are_left_or_mean_the_same(rand: Rand) -> None:
    asker = Asker()
    taken = 0
    for _ in range(3000):
        text = bytearray(entities(*(f"C{rand.randrange(100)}" for _ in range(rand.randrange(1, 4)))))
        for _ in range(rand.choice([0, 1, 1, 2])):
            text[rand.randrange(len(text))] = rand.choice(b'"[]{},:\\ 0123456789abc\x00\xc3')
        read = asker.ask(bytes(text))
        if read is not None:
            assert json.loads(bytes(text)) == read.columns
            taken += 1
    assert taken > 500


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b'{"entities": ', b', "features": ["v:f"]}'),
        (b'{"features":["v:f"],"entities":', b',"full_feature_names":true}'),
        (b'{"feature_service": "a\\"entities\\" b", "entities": ', b"}\n"),
    ],
)
def test_whatever_stands_around(before: bytes, behind: bytes) -> None:
    asker = Asker(before, behind)
    known = asker.ask(entities("C1"))
    assert (known is not None) is (before.count(b'"entities"') == 1)


def test_several_ends_of_one_beginning() -> None:
    asker = Asker(b'{"entities": ', b', "features": ["v:f"]}')
    text = entities("C7")
    for n in range(20):
        asker.behind = b', "features": ["v:f"], "x": %d}' % n
        asker.lane.learn(asker.before + text + asker.behind, text, Wanted(), PLAN, EPOCH)
    assert asker.ask(text) is not None
    asker.behind = b', "features": ["v:f"], "x": 0}'
    assert asker.ask(text) is None  # only the latest are kept


def test_another_epoch_and_other_heads() -> None:
    asker = Asker()
    text = entities("C1")
    assert asker.lane.knows(asker.before + text + asker.behind, EPOCH)
    assert not asker.lane.knows(asker.before + text + asker.behind, object())
    assert asker.ask(text, object()) is None
    whole = asker.request(text)
    for data in (whole[:-1], whole + b" ", whole.replace(b"read", b"reed"), b"", b"\r\n\r\n"):
        assert asker.lane.begin(Protocol(), data, EPOCH) is None
    assert asker.lane.begin(Protocol(), whole, EPOCH) is not None
    assert Asker(form=None).ask(text) is None


def test_ambiguous_entities_are_not_learned() -> None:
    text = entities("x")
    asker = Asker(b'{"note": %b, "entities": ' % text)
    assert asker.ask(text) is None


def test_more_rows_than_allowed() -> None:
    asker = Asker(most=2)
    assert asker.ask(entities("a", "b")) is not None
    assert asker.ask(entities("a", "b", "c")) is None


# --- answers ---------------------------------------------------------------------------------------------------------


def filled(request: Request, **wanted: bool) -> LaneRead:
    asker = Asker(plan=request.plan, **wanted)
    read = asker.ask(entities(*request.entities))
    assert read is not None
    while read.batch.commands() is not None:
        pass
    assert read.batch.feed(request.replies())
    return read


def test_the_response(rand: Rand) -> None:
    request = typical(rand, 3)
    read = filled(request)
    body = json_response(read.batch)
    head = b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: %d\r\ncontent-type: application/json\r\n" % len(body)
    assert read.response(DEFAULTS, False) == head + b"x-request-id: p-ff\r\n\r\n" + body
    assert read.framed(b"x", DEFAULTS, True).endswith(b"x-request-id: p-ff\r\nconnection: close\r\n\r\nx")
    assert filled(request, compact=True).response(DEFAULTS, False).endswith(b"\r\n\r\n" + compact_json(read.batch))  # type: ignore[union-attr]


def test_what_the_hooks_ask_of_it() -> None:
    read = Asker(compact=True).ask(entities("C1"))
    assert read is not None
    assert (read.id, read.headers, read.client) == ("p-ff", [(b"x-request-id", b"p-ff")], "1.2.3.4:5")
    assert (read.method, read.path, read.key, read.trace, read.head) == ("POST", "/read", "", "", "head")
    assert read.request == Wanted(compact=True, entities={JOIN_KEY: ["C1"]})
    assert (read.timer, read.exchange) == (read, read)


def test_it_is_in_flight_until_it_ends() -> None:
    asker = Asker()
    read = asker.ask(entities("C1"))
    assert asker.counts[0] == 1
    del read
    assert asker.counts[0] == 0


# --- replies ---------------------------------------------------------------------------------------------------------


class Wire:
    """Stands in for the owner of a connection."""

    cancelled = 0

    def refused(self, batch: Batch) -> Exception:
        return ValueError(batch.refusal)


def begun(request: Request, told: list[Any], is_piece: bool = False) -> tuple[StoreRead, int, bool, float]:
    batch = request.begin()
    while batch.commands() is not None:
        pass
    return StoreRead(Wire(), batch, told.append, 0.0), batch.asked, is_piece, 0.0


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_replies_go_to_their_reads_in_order(rand: Rand, size: int) -> None:
    requests = [typical(rand, n) for n in (1, 3, 1)]
    told: list[list[Any]] = [[], [], []]
    entries = [begun(request, mine) for request, mine in zip(requests, told, strict=True)]
    in_flight = deque(entries)
    data = b"".join(request.replies() for request in requests)
    for at in range(0, len(data), size):
        assert take_replies(in_flight, data[at : at + size], 0) == -1
    assert not in_flight and told == [[None], [None], [None]]
    for request, entry in zip(requests, entries, strict=True):
        assert json_response(entry[0].batch) == json_response(request.filled())


def test_refusals_pieces_and_what_is_too_much(rand: Rand) -> None:
    one, told = typical(rand, 1), []  # type: Request, list[Any]
    in_flight = deque([begun(one, told), begun(one, told, is_piece=True)])
    data = b"-ERR no\r\n" + one.replies()
    assert take_replies(in_flight, data, 0) == 9
    assert len(in_flight) == 1 and isinstance(told[0], ValueError)
    assert take_replies(deque(), b"+OK\r\n", 0) == 0
    assert take_replies(deque(), b"+OK\r\n", 5) == -1


def test_a_cancelled_read_takes_its_replies_and_tells_nobody(rand: Rand) -> None:
    one, told = typical(rand, 1), []  # type: Request, list[Any]
    entry = begun(one, told)
    entry[0].cancel()
    assert entry[0].wire.cancelled == 1
    assert take_replies(deque([entry]), one.replies(), 0) == -1
    assert told == []
