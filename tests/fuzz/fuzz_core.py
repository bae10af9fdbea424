"""Feed the core bytes that no writer wrote, for as long as you like; best under the address sanitiser.

    python tests/fuzz/fuzz_core.py --seconds 60
    python tests/fuzz/fuzz_core.py --seed 7 --start 123456 --rounds 1      one round again

Round R of seed S is always the same. Every round mutates recorded values, entity keys, timestamps or Redis replies and
gives them to one of the functions that read them; only the errors that those functions promise may come out. The number
of the current round is kept in a file, so that it is known after a crash. The exit status is 1 if a round failed.

The sanitised core (`make fuzz` does all of it):

    FASTSERVE_SANITIZE=address python setup.py build_ext --inplace
    export LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc
    python tests/fuzz/fuzz_core.py
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from fastserve import _core
from fastserve.errors import DecodeError
from tests import goldens, reference
from tests.core.requests import every_type, frame_reply, typical
from tests.fuzz import vectors
from tests.hostile import mutated

VALUES = goldens.value_bytes()
KEYS = sorted({bytes.fromhex(case["v3_hex"]) for case in goldens.load("entity_keys")["cases"] if "v3_hex" in case})
TIMESTAMPS = [
    reference.encode_timestamp(seconds, nanos) for seconds, nanos in [(0, 0), (1_767_323_045, 678_901_000), (-1, 0)]
]
VALUE_TYPES = [0, *range(1, 9), *range(11, 49), 99, 2**32 - 1]
REQUESTS = [typical(Random(1), 2, n_views=1), typical(Random(2), 2, n_views=1), every_type()]
REPLIES = [request.replies() for request in REQUESTS] + [frame_reply([None] * 9) * 2]
ANSWERS = [_core.answer_bytes(request.filled(), versions) for request in REQUESTS for versions in (False, True)]
COLUMN_TYPES = [
    (_core.fixed_column, range(3, 9)),
    (_core.text_column, (1, 2, 30, 31, 32, 36, 37, 44, 47)),
    (_core.list_column, (*range(11, 19), *range(22, 30), 33, *range(38, 42), 45, 46)),
]


def fuzz_value(rand: Random) -> None:
    """decode_value and value_to_json."""
    data = mutated(rand, VALUES)
    for read in (lambda: _core.decode_value(data, rand.choice(VALUE_TYPES)), lambda: _core.value_to_json(data)):
        try:
            read()
        except DecodeError as error:
            check(0 <= error.offset <= len(data), f"offset {error.offset} of {data.hex()}")


def fuzz_key(rand: Random) -> None:
    """deserialize_entity_key; what it accepts is written back as it was."""
    data = mutated(rand, KEYS)
    try:
        names, types, values = _core.deserialize_entity_key(data)
    except DecodeError as error:
        check(0 <= error.offset <= len(data), f"offset {error.offset} of {data.hex()}")
        return
    if len(set(names)) == len(names) and list(names) == sorted(names) and b"\0\2\0" not in data:
        again = _core.serialize_entity_key(names, values, types)
        check(len(again) <= len(data), f"{data.hex()} became {again.hex()}")


def fuzz_timestamp(rand: Random) -> None:
    """decode_timestamp; what it accepts can be written."""
    data = mutated(rand, TIMESTAMPS)
    try:
        micros = _core.decode_timestamp(data)
    except DecodeError:
        return
    again = _core.encode_timestamp(micros // 1_000_000, micros % 1_000_000 * 1000)
    check(_core.decode_timestamp(again) == micros, f"{data.hex()} became {again.hex()}")


def fuzz_encode(rand: Random) -> None:
    """encode_value of whatever a broken value decodes to, as any type."""
    try:
        value = _core.decode_value(mutated(rand, VALUES))
    except DecodeError:
        return
    try:
        data = _core.encode_value(value, rand.choice(VALUE_TYPES))
    except (TypeError, ValueError):
        return
    with contextlib.suppress(DecodeError):  # integers are taken as seconds of any size, which no datetime can hold
        _core.decode_value(data)


def fuzz_replies(rand: Random) -> None:
    """Batch.feed of broken replies, in pieces, and every form of the answer."""
    request, data = rand.choice(REQUESTS), mutated(rand, REPLIES)
    batch = request.begin()
    batch.commands()
    cut = rand.randint(0, len(data))
    with contextlib.suppress(_core.UnusualReply):
        way = rand.randrange(3)
        if way == 0:
            batch.feed(data[:cut])
            batch.feed(data[cut:])
        elif way == 1:
            receive(batch, data[:cut])
            receive(batch, data[cut:])
        elif batch.feed_from(data, 0, cut, batch.asked) < 0:
            batch.feed_from(data, cut, len(data), batch.asked)
    emit_all(batch, request.plan)


def receive(batch: _core.Batch, data: bytes) -> None:
    """Feed bytes as if a socket had received them into the batch."""
    with memoryview(batch) as room:
        room[: len(data)] = data
    batch.feed_received(len(data))


def fuzz_answer(rand: Random) -> None:
    """read_answer of broken bytes, and every form of what it accepts."""
    data = mutated(rand, ANSWERS)
    try:
        plan = _core.answer_plan(_core.answer_head(data))
        batch = _core.read_answer(plan, data)
    except DecodeError as error:
        check(0 <= error.offset <= len(data), f"offset {error.offset} of {data.hex()}")
        return
    emit_all(batch, plan)


def fuzz_cells(rand: Random) -> None:
    """Well-formed replies that hold broken values and timestamps, and every form of the answer."""
    request = rand.choice(REQUESTS)
    batch = request.begin()
    fields = range(len(request.plan.groups[0].fields))
    for entity in range(len(batch.entity_keys(0))):
        for field in fields:
            samples = TIMESTAMPS if field == fields[-1] else VALUES
            if rand.random() < 0.9:
                batch.put(0, entity, field, mutated(rand, samples) if rand.random() < 0.3 else rand.choice(samples))
    emit_all(batch, request.plan)


def emit_all(batch: _core.Batch, plan: _core.ReadPlan) -> None:
    """Every form of the answer; errors must say where in the store the broken bytes are."""
    emitters: list[Callable[[], object]] = [
        partial(_core.python_columns, batch, True),
        partial(_core.json_response, batch, True),
        partial(_core.proto_response, batch, True),
        partial(_core.statuses, batch),
    ]
    for slot in plan.outputs:
        columns = [column for column, types in COLUMN_TYPES if slot.value_type in types]
        emitters += [partial(column, batch, slot) for column in [*columns, _core.event_time_column, _core.slot_values]]
    for emit in emitters:
        try:
            emit()
        except DecodeError as error:
            check(error.field is not None and error.key is not None, f"{error} does not name its place")


def check(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


TARGETS: list[Callable[[Random], None]] = [
    *(fuzz_value, fuzz_value, fuzz_value, fuzz_key, fuzz_timestamp, fuzz_encode, fuzz_replies, fuzz_cells),
    fuzz_answer,
    *vectors.TARGETS,
]


def run_round(seed: int, round: int, targets: list[Callable[[Random], None]]) -> bool:
    """Run one round; print what went wrong, if anything did, and return whether all was well."""
    rand = Random(f"{seed}/{round}")
    target = rand.choice(targets)
    try:
        target(rand)
    except Exception:
        print(f"round {round} of seed {seed} ({target.__name__}) failed:", file=sys.stderr)
        traceback.print_exc()
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="stop after this many rounds")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--only", default="", help="only targets with this in their name or module, such as vectors")
    parser.add_argument("--start", type=int, default=0, help="the first round")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else Random().getrandbits(32)
    faulthandler.enable()
    with tempfile.NamedTemporaryFile(prefix="fuzz_core-", suffix=".round", delete=False) as current:
        print(f"seed {seed}; the current round is in {current.name}", flush=True)
        targets = [target for target in TARGETS if options.only in f"{target.__module__}.{target.__name__}"]
        ran, failed = run(current.fileno(), seed, options.start, options.rounds, options.seconds, targets)
    os.unlink(current.name)
    print(f"{ran} rounds, {failed} failed")
    return 1 if failed else 0


def run(
    current: int, seed: int, start: int, rounds: int, seconds: float, targets: list[Callable[[Random], None]]
) -> tuple[int, int]:
    """Run rounds until there are enough, the time is over or twenty have failed; return how many ran and failed."""
    deadline = time.monotonic() + seconds
    ran = failed = 0
    while ran < rounds and failed < 20 and time.monotonic() < deadline:
        os.pwrite(current, b"%020d\n" % (start + ran), 0)
        failed += not run_round(seed, start + ran, targets)
        ran += 1
    return ran, failed


if __name__ == "__main__":
    sys.exit(main())
