"""Checks of arguments, and what all definitions have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from fastserve.errors import DefinitionError

__all__ = ["Arguments", "Definition"]

_T = TypeVar("_T")


class Arguments:
    """Checks the arguments of one object; each method returns the argument in its final form.

    None is accepted wherever Feast accepts it, and means the empty value.

    Raises:
        DefinitionError: from each method: the argument is of the wrong type.
    """

    def __init__(self, kind: str, name: object):
        self._kind = kind
        self._name = name if isinstance(name, str) else ""
        self.text("name", name)

    def error(self, rule: str) -> DefinitionError:
        """Return an error about the object."""
        return DefinitionError(self._kind, self._name, rule)

    def one(self, argument: str, value: object, kind: type[_T], form: str) -> _T:
        """Return `value`, which must be of class `kind`; `form` says so in words."""
        if not isinstance(value, kind):
            raise self.error(f"{argument} must be {form}, not {value!r}")
        return value

    def text(self, argument: str, value: object) -> str:
        """Return a text."""
        return self.one(argument, value, str, "text")

    def text_or_none(self, argument: str, value: object) -> str:
        """Return a text; None becomes ""."""
        return "" if value is None else self.text(argument, value)

    def flag(self, argument: str, value: object) -> bool:
        """Return a truth value."""
        return self.one(argument, value, bool, "True or False")

    def duration(self, argument: str, value: object) -> timedelta | None:
        """Return a timedelta, not negative, or None."""
        if value is None:
            return None
        duration = self.one(argument, value, timedelta, "a timedelta")
        if duration < timedelta(0):
            raise self.error(f"{argument} must not be negative, but is {duration}")
        return duration

    def moment(self, argument: str, value: object) -> datetime | None:
        """Return a datetime or None."""
        return None if value is None else self.one(argument, value, datetime, "a datetime")

    def texts(self, argument: str, value: object) -> dict[str, str]:
        """Return a mapping of texts as a new dict; None becomes {}."""
        mapping = {} if value is None else value
        if not isinstance(mapping, Mapping):
            raise self.error(f"{argument} must be a mapping of texts, not {value!r}")
        for key, text in mapping.items():
            if not isinstance(key, str) or not isinstance(text, str):
                raise self.error(f"{argument} must be a mapping of texts, but has {key!r}: {text!r}")
        return dict(mapping)

    def several(self, argument: str, value: object, kinds: type[_T] | tuple[type[Any], ...], form: str) -> list[_T]:
        """Return a list or tuple of objects of the given classes as a new list; None becomes []."""
        if not isinstance(value, (list, tuple, type(None))):
            raise self.error(f"{argument} must be a list of {form}, not {value!r}")
        for position, item in enumerate(value or ()):
            if not isinstance(item, kinds):
                raise self.error(f"{argument} must be a list of {form}, but number {position} is {item!r}")
        return list(value or ())

    def distinct(self, argument: str, names: Iterable[str]) -> None:
        """Fail if a name occurs twice."""
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise self.error(f"{argument} has {name} twice")
            seen.add(name)


_NOT_COMPARED = frozenset({"created_timestamp", "last_updated_timestamp"})


class Definition:
    """Base of what a repository defines: named, compared by content (without time stamps), hashed by name.

    Definitions can be changed after construction, as Feast's can; `fastserve.definition.validate` looks at them again
    before they are applied.
    """

    name: str
    created_timestamp: datetime | None = None
    last_updated_timestamp: datetime | None = None

    def _content(self) -> dict[str, object]:
        return {key: value for key, value in vars(self).items() if key not in _NOT_COMPARED}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Definition) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.name))

    def __repr__(self) -> str:
        shown = ", ".join(f"{key}={value!r}" for key, value in self._content().items() if value or key == "name")
        return f"{type(self).__name__}({shown})"
