"""Checks of a section of feature_store.yaml: mapping -> Section, with errors that name the key by its path."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

import msgspec

from fastserve.errors import ConfigError

__all__ = ["Section", "convert", "join", "read_section", "refuse_unknown", "type_name"]

logger = logging.getLogger("fastserve.config")


class Section(msgspec.Struct, frozen=True):
    """Base of what a section of the file becomes; its repr leaves out the fields named in `_secret`."""

    _secret: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        shown = (name for name in self.__struct_fields__ if name not in self._secret)
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


T = TypeVar("T", bound=Section)


def read_section(kind: type[T], values: object, path: str, *, lax: bool = False, unknown_is_fatal: bool = True) -> T:
    """Return a section as a `kind`.

    Args:
        path: of the section, "" for the whole file.
        lax: numbers and booleans may be given as text.
        unknown_is_fatal: else unknown keys are logged and ignored.

    Raises:
        ConfigError: the text starts with the path of the key.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or 'the file'}: expected a mapping, got {type_name(values)}")
    known = kind.__struct_fields__
    if unknown_is_fatal:
        refuse_unknown(values, known, path)
    for key in values:
        if key not in known:
            logger.warning("unknown key %s is ignored%s", join(path, str(key)), _hint(str(key), known))
    return convert(kind, {key: value for key, value in values.items() if key in known}, path, lax=lax)


def refuse_unknown(keys: Iterable[object], known: Collection[str], path: str, noun: str = "key") -> None:
    """Raise ConfigError for the first of `keys` that is not known, with the nearest one that is."""
    for key in keys:
        if key not in known:
            place = join(path, str(key)) if noun == "key" else f"{path}: {str(key)!r}"
            raise ConfigError(f"{place}: unknown {noun}{_hint(str(key), known)}")


def convert(kind: type[T], values: Mapping[str, Any], path: str, *, lax: bool) -> T:
    """Return values, whose keys are all known, as a `kind`; arguments as in `read_section`."""
    try:
        return msgspec.convert(values, kind, strict=not lax, dec_hook=_decode)
    except msgspec.ValidationError as exc:
        raise ConfigError(_located(str(exc), kind, path)) from None


def _decode(kind: type, value: Any) -> Any:
    # The only type of a section that msgspec does not know itself is Path.
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type_name(value)}`")
    return kind(value)


def _located(text: str, kind: type, path: str) -> str:
    """Turn msgspec's words, such as "Expected `int`, got `str` - at `$.a`", into ours, which have no value in them."""
    reason, _, place = text.partition(" - at `$")
    key = place.rstrip("`").lstrip(".")
    missing = re.fullmatch("Object missing required field `(.*)`", reason)
    if missing:
        return f"{join(path, missing[1])}: required"
    if reason.startswith("Invalid enum value"):
        reason = "Must be " + " or ".join(str(value) for value in get_args(get_type_hints(kind)[key]))
    return f"{join(path, key)}: {reason[0].lower()}{reason[1:].replace('`', '')}"


def join(path: str, key: str) -> str:
    """Return the path of a key in the section at `path`."""
    return ".".join(part for part in (path, key) if part)


def type_name(value: object) -> str:
    """Return the type of a YAML value as errors call it."""
    return "nothing" if value is None else type(value).__name__


def _hint(key: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(key.strip(), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
