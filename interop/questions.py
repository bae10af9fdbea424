"""Random questions about a repository; the same for the same seed.

Left out, because Feast's answers to them are wrong beyond comparison:
- references with equal names in the answer (refused by both), or with the name of a source feature of an on-demand view
  (Feast mixes the two up);
- numbers of different kinds in one column of request data (Feast cuts them to the kind of the first);
- protobuf Values of other keys than text and integers, or for columns without a declared type (Feast refuses them);
- some but not all join keys of a view (Feast looks up another, shorter key), no rows, null keys;
- a service's own name of a join key before the key's real name (the later of the two wins in Feast);
- entities by name with keys that are not of the type of their values (Feast guesses the type and looks up another key);
- on-demand views in pandas mode beside values that have no common Arrow type, and beside singletons with their columns
  of one row (Feast makes an Arrow table of all that was asked for).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from interop.exchange import Question
from interop.facts import Facts, Needs, Projection

__all__ = ["random_questions"]

Columns = dict[str, list[Any]]

UTC = timezone.utc
MOST_ROWS_OF_SINGLETONS = 6  # each costs a request of its own
PLAIN_TYPES = {"STRING", "INT64", "BYTES"}  # of keys that have the type of their Python values, in JSON too
MESSAGE_TYPES = {"STRING", "INT32", "INT64"}  # of keys that Feast takes as protobuf Values


def random_questions(facts: Facts, seed: int, count: int) -> list[Question]:
    """Return `count` questions that can be asked over HTTP too, and those on keys of bytes that came up meanwhile."""
    asker = Asker(facts, seed)
    questions: list[Question] = []
    while count:
        questions.append(asker.question(str(len(questions))))
        count -= questions[-1].has_body
    return questions


class Asker(random.Random):
    """Makes questions."""

    def __init__(self, facts: Facts, seed: int):
        super().__init__(seed)
        self.facts = facts

    def chance(self, share: float) -> bool:
        return self.random() < share

    # --- what is asked for ---

    def question(self, id_: str) -> Question:
        """Return one question."""
        asked: dict[str, Any] = {"id": id_, "full_feature_names": self.chance(0.4), "versions": self.chance(0.2)}
        if self.chance(0.35):
            precomputed = [name for name, service in self.facts.services.items() if service["precomputed"]]
            asked["service"] = self.choice([*self.facts.services, *precomputed, *precomputed])
        else:
            asked["features"] = self.references()
        draft = self.with_distinct_names(Question(entities={}, **asked))
        return self.with_entities(draft)

    def references(self) -> tuple[str, ...]:
        views = [*self.facts.views, *self.facts.on_demand]
        # A question about everything at once is the rarer one.
        chosen = self.sample(sorted(views), min(self.choice([1, 1, 2, 2, 3, 5]), len(views)))
        if any(self.facts.on_demand.get(view, {}).get("mode") == "pandas" for view in chosen):
            chosen = [view for view in chosen if view != "everything" and not self.is_singleton(view)]
        references = [f"{view}:{feature}" for view in chosen for feature in self.features(view)]
        if self.chance(0.5):
            self.shuffle(references)
        return tuple(references)

    def is_singleton(self, view: str) -> bool:
        return bool(self.facts.on_demand.get(view, {}).get("singleton"))

    def features(self, view: str) -> list[str]:
        found = sorted((self.facts.views.get(view) or self.facts.on_demand[view])["features"])
        return self.sample(found, self.randint(1, min(len(found), 12)))

    def with_distinct_names(self, draft: Question) -> Question:
        """Use full names where short ones collide, and leave out what collides then."""
        if self.collides(draft):
            draft = replace(draft, full_feature_names=True)
        while self.collides(draft):
            draft = replace(draft, features=draft.features[1:])
        return draft

    def collides(self, draft: Question) -> bool:
        names = [output.name for output in self.facts.outputs(draft)]
        return len(set(names)) < len(names)

    # --- about whom ---

    def with_entities(self, draft: Question) -> Question:
        projections = self.facts.projections(draft)
        needs = self.facts.needs(projections)
        rows = self.rows(needs, self.row_count(draft))
        columns, types = self.keys(draft, needs, rows)
        messages = not needs.data and bool(types) and set(types.values()) <= MESSAGE_TYPES and self.chance(0.3)
        if messages:
            form = self.choice(["values", "repeated"])
        else:
            form = self.choice(["rows", "rows", "rows", "columns", "columns", "tuples"])
            self.add_others(columns, types, len(rows))
        columns.update({name: DATA[kind](self, len(rows)) for name, kind in needs.data.items()})
        entities = {name: columns[name] for name in self.order(columns, projections)}
        return replace(draft, entities=entities, form=form, types=types | needs.data)

    def keys(self, draft: Question, needs: Needs, rows: list[dict[str, Any]]) -> tuple[Columns, dict[str, str]]:
        """Return columns and their types: as they are, or in other forms, or under the names of the entities."""
        columns = {name: [row[name] for row in rows] for name in needs.keys}
        if not draft.service and set(needs.keys.values()) <= PLAIN_TYPES and self.chance(0.1):
            # As was once usual.
            names = self.facts.entities
            return {names[key]: values for key, values in columns.items()}, dict.fromkeys(names.values(), "by name")
        if self.chance(0.2):
            columns = {name: self.disguised(values, needs.keys[name]) for name, values in columns.items()}
            return columns, dict.fromkeys(columns, "in disguise")
        return columns, dict(needs.keys)

    def order(self, columns: Columns, projections: list[Projection]) -> list[str]:
        """Return the columns in any order, but real names before those that a service gives."""
        mapped = {column for projection in projections for column in projection.join_key_map.values()}
        return sorted(self.sample(list(columns), len(columns)), key=lambda name: name in mapped)

    def row_count(self, draft: Question) -> int:
        count = self.choice([1, 1, 1, 2, 2, 3, 5, 8, 13, 21, self.choice([34, 60, 250])])
        singletons = any(output.kind == "singleton" for output in self.facts.outputs(draft))
        return min(count, MOST_ROWS_OF_SINGLETONS) if singletons else count

    def rows(self, needs: Needs, count: int) -> list[dict[str, Any]]:
        """Return rows in any order, some of them repeated."""
        distinct = self.randint(1, count) if self.chance(0.4) else count
        strangers = self.choice([0.0, 0.1, 0.3])
        rows = [self.row(needs, strangers) for _ in range(distinct)]
        rows += self.choices(rows, k=count - distinct)
        self.shuffle(rows)
        return rows

    def row(self, needs: Needs, strangers: float) -> dict[str, Any]:
        """Return one row, of keys that are there together but for a share of strangers."""
        row: dict[str, Any] = {}
        for view, columns in self.sample(needs.anchors, len(needs.anchors)):
            known = self.choice(self.facts.known_rows(view))
            for name, column in columns.items():
                row.setdefault(column, known[name])
        for name, kind in needs.keys.items():
            if self.chance(strangers):
                row[name] = UNKNOWN[kind](self)
        return row

    def disguised(self, values: list[Any], kind: str) -> list[Any]:
        """Give keys in forms that mean the same: numbers as text, times as numbers."""
        disguises = DISGUISES.get(kind, [lambda value: value])
        return [self.choice(disguises)(value) if self.chance(0.5) else value for value in values]

    def add_others(self, columns: Columns, types: dict[str, str], count: int) -> None:
        """Add keys of other entities, which the answer repeats, and a column that nobody knows, which it does not."""
        others = [name for name in sorted(self.facts.key_types) if name not in columns]
        if others and self.chance(0.12):
            for name in self.sample(others, self.randint(1, min(2, len(others)))):
                # What no view types has the type of its values; that of a Python int is INT64.
                kind = self.facts.key_types[name]
                types[name] = "INT64" if kind == "INT32" else kind
                columns[name] = [UNKNOWN[kind](self) for _ in range(count)]
        if not columns or self.chance(0.1):
            columns["nobody_knows"] = list(range(count))
            types["nobody_knows"] = "INT64"


# --- values ----------------------------------------------------------------------------------------------------------

# Of keys that are not in the store.
UNKNOWN: dict[str, Callable[[Asker], Any]] = {
    "STRING": lambda asker: f"nobody {asker.randrange(100)} é",
    "INT64": lambda asker: asker.randrange(-(2**63), 2**63),
    "INT32": lambda asker: asker.randrange(-(2**31), 2**31),
    "BYTES": lambda asker: asker.randbytes(asker.randint(1, 9)),
    "UNIX_TIMESTAMP": lambda asker: datetime(1950, 1, 1, tzinfo=UTC) + timedelta(seconds=asker.randrange(10**9)),
}


def number_text(value: str) -> int | str:
    digits = value.removeprefix("-")
    return int(value) if digits.isascii() and digits.isdigit() and str(int(value)) == value else value


def whole_float(value: int) -> float | int:
    return float(value) if abs(value) < 2**53 else value


def seconds(value: datetime) -> int:
    return int(value.timestamp())


DISGUISES: dict[str, list[Callable[[Any], Any]]] = {
    "STRING": [number_text],
    "INT64": [str, whole_float],
    "INT32": [str, whole_float],
    "UNIX_TIMESTAMP": [seconds, lambda value: str(seconds(value)), lambda value: value.replace(tzinfo=None)],
}


def amounts(asker: Asker, count: int) -> list[Any]:
    make = (lambda: asker.randrange(10**6)) if asker.chance(0.3) else (lambda: asker.uniform(0, 1000))
    return with_nulls(asker, [make() for _ in range(count)])


def moment(asker: Asker) -> datetime:
    """A time in any zone or in none, of whole seconds or not, after 1970 or before."""
    zone = asker.choice([UTC, None, timezone(timedelta(minutes=asker.randrange(-719, 841)))])
    micros = asker.choice([0, asker.randrange(10**6)])
    return datetime(1950, 1, 1, tzinfo=zone) + timedelta(seconds=asker.randrange(3 * 10**9), microseconds=micros)


def with_nulls(asker: Asker, values: list[Any]) -> list[Any]:
    share = asker.choice([0.0, 0.0, 0.3])
    return [values[0], *(None if asker.chance(share) else value for value in values[1:])]


# Of request data.
DATA: dict[str, Callable[[Asker, int], list[Any]]] = {
    "DOUBLE": amounts,
    "STRING": lambda asker, count: with_nulls(asker, [asker.choice(["Dear", "Mrs", "Μr"]) for _ in range(count)]),
    "UNIX_TIMESTAMP": lambda asker, count: with_nulls(asker, [moment(asker) for _ in range(count)]),
    "INT64": lambda asker, count: with_nulls(asker, [asker.randrange(5) for _ in range(count)]),
}
