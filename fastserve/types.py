"""The types that a feature or join key can have: `Int64`, `Array(Float32)`, `Struct({"street": String})`, ...

A dtype describes what the user declared; its `ValueType` is the number by which the registry and stored bytes know it.
Several dtypes can share one number (every `Struct` is STRUCT), so a dtype is also kept as text, in the forms that Feast
writes into a field's tags: `to_type_text`, `from_type_text` and the JSON forms of a struct's fields.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType

__all__ = [
    "Array",
    "Bool",
    "Bytes",
    "Decimal",
    "FeastType",
    "Float32",
    "Float64",
    "ImageBytes",
    "Int32",
    "Int64",
    "Invalid",
    "Json",
    "Map",
    "PdfBytes",
    "PrimitiveType",
    "ScalarMap",
    "Set",
    "String",
    "Struct",
    "TimeUuid",
    "UnixTimestamp",
    "Uuid",
    "ValueType",
    "ZonedTimestamp",
    "from_struct_text",
    "from_type_text",
    "from_value_type",
    "to_struct_text",
    "to_type_text",
]


class ValueType(enum.IntEnum):
    """The type numbers of the registry; except for 30 and 31 they are also the field numbers of a stored `Value`."""

    UNKNOWN = 0
    BYTES = 1
    STRING = 2
    INT32 = 3
    INT64 = 4
    DOUBLE = 5
    FLOAT = 6
    BOOL = 7
    UNIX_TIMESTAMP = 8
    BYTES_LIST = 11
    STRING_LIST = 12
    INT32_LIST = 13
    INT64_LIST = 14
    DOUBLE_LIST = 15
    FLOAT_LIST = 16
    BOOL_LIST = 17
    UNIX_TIMESTAMP_LIST = 18
    NULL = 19
    MAP = 20
    MAP_LIST = 21
    BYTES_SET = 22
    STRING_SET = 23
    INT32_SET = 24
    INT64_SET = 25
    DOUBLE_SET = 26
    FLOAT_SET = 27
    BOOL_SET = 28
    UNIX_TIMESTAMP_SET = 29
    PDF_BYTES = 30  # stored as BYTES
    IMAGE_BYTES = 31  # stored as BYTES
    JSON = 32
    JSON_LIST = 33
    STRUCT = 34
    STRUCT_LIST = 35
    UUID = 36
    TIME_UUID = 37
    UUID_LIST = 38
    TIME_UUID_LIST = 39
    UUID_SET = 40
    TIME_UUID_SET = 41
    VALUE_LIST = 42
    VALUE_SET = 43
    DECIMAL = 44
    DECIMAL_LIST = 45
    DECIMAL_SET = 46
    SCALAR_MAP = 47
    ZONED_TIMESTAMP = 48


class FeastType:
    """Base of all dtypes: hashable, equal by content, never changed after construction."""

    __slots__ = ()

    @property
    def value_type(self) -> ValueType:
        """The number under which the registry and the stored bytes know this type."""
        raise NotImplementedError

    def to_value_type(self) -> ValueType:
        """Return `value_type`; the spelling that Feast uses."""
        return self.value_type

    def __repr__(self) -> str:
        return str(self)


class PrimitiveType(FeastType):
    """A type without parameters; use the instances of this module (`Int64`, `String`, ...)."""

    __slots__ = ("_name", "_text", "_value_type")

    def __init__(self, name: str, value_type: ValueType, text: str):
        self._name = name
        self._value_type = value_type
        self._text = text

    @property
    def value_type(self) -> ValueType:
        return self._value_type

    def __str__(self) -> str:
        return self._name

    def __reduce__(self) -> str:
        # Copies and pickles are the instance of this module, so that `is` works too.
        return self._name


Invalid = PrimitiveType("Invalid", ValueType.UNKNOWN, "INVALID")
Bytes = PrimitiveType("Bytes", ValueType.BYTES, "BYTES")
String = PrimitiveType("String", ValueType.STRING, "STRING")
Int32 = PrimitiveType("Int32", ValueType.INT32, "INT32")
Int64 = PrimitiveType("Int64", ValueType.INT64, "INT64")
Float64 = PrimitiveType("Float64", ValueType.DOUBLE, "FLOAT64")
Float32 = PrimitiveType("Float32", ValueType.FLOAT, "FLOAT32")
Bool = PrimitiveType("Bool", ValueType.BOOL, "BOOL")
UnixTimestamp = PrimitiveType("UnixTimestamp", ValueType.UNIX_TIMESTAMP, "UNIX_TIMESTAMP")
Map = PrimitiveType("Map", ValueType.MAP, "MAP")
PdfBytes = PrimitiveType("PdfBytes", ValueType.PDF_BYTES, "PDF_BYTES")
ImageBytes = PrimitiveType("ImageBytes", ValueType.IMAGE_BYTES, "IMAGE_BYTES")
Json = PrimitiveType("Json", ValueType.JSON, "JSON")
Uuid = PrimitiveType("Uuid", ValueType.UUID, "UUID")
TimeUuid = PrimitiveType("TimeUuid", ValueType.TIME_UUID, "TIME_UUID")
Decimal = PrimitiveType("Decimal", ValueType.DECIMAL, "DECIMAL")
ScalarMap = PrimitiveType("ScalarMap", ValueType.SCALAR_MAP, "SCALAR_MAP")
ZonedTimestamp = PrimitiveType("ZonedTimestamp", ValueType.ZONED_TIMESTAMP, "ZONED_TIMESTAMP")

_PRIMITIVES = {name: value for name, value in globals().items() if isinstance(value, PrimitiveType)}
_BY_TEXT: dict[str, PrimitiveType] = {dtype._text: dtype for dtype in _PRIMITIVES.values()}
_BY_NUMBER: dict[ValueType, FeastType] = {dtype.value_type: dtype for dtype in _PRIMITIVES.values()}


class _Collection(FeastType):
    """What `Array` and `Set` have in common: one parameter, and two numbers, of the flat and of the nested form."""

    __slots__ = ("base_type",)

    base_type: FeastType
    _suffix: str
    _nested: ValueType

    def __init__(self, base_type: FeastType):
        if not isinstance(base_type, FeastType):
            raise ValueError(f"{type(self).__name__}: {base_type!r} is not a dtype of fastserve.types")
        self.base_type = base_type
        if not isinstance(base_type, _Collection) and self._flat_name() not in ValueType.__members__:
            raise ValueError(f"{type(self).__name__} cannot hold {base_type}")

    def _flat_name(self) -> str:
        return self.base_type.value_type.name + self._suffix

    @property
    def value_type(self) -> ValueType:
        return self._nested if isinstance(self.base_type, _Collection) else ValueType[self._flat_name()]

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.base_type})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, _Collection) and self.base_type == other.base_type

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.base_type))


class Array(_Collection):
    """A list.

    Args:
        base_type: the type of the elements: a primitive type other than Invalid, PdfBytes, ImageBytes, ScalarMap and
            ZonedTimestamp, a Struct, or again an Array or Set.

    Raises:
        ValueError: the type cannot be an element of a list.
    """

    __slots__ = ()
    _suffix = "_LIST"
    _nested = ValueType.VALUE_LIST


class Set(_Collection):
    """A set.

    Args:
        base_type: as for `Array`, but neither Map, Json nor a Struct.

    Raises:
        ValueError: the type cannot be an element of a set.
    """

    __slots__ = ()
    _suffix = "_SET"
    _nested = ValueType.VALUE_SET


class Struct(FeastType):
    """A record with named fields.

    Args:
        fields: name -> dtype, at least one.

    Raises:
        ValueError: there is no field, or a type is not a dtype.
    """

    __slots__ = ("fields",)

    fields: Mapping[str, FeastType]

    def __init__(self, fields: Mapping[str, FeastType]):
        if not fields:
            raise ValueError("Struct must have at least one field")
        for name, dtype in fields.items():
            if not isinstance(dtype, FeastType):
                raise ValueError(f"Struct field {name}: {dtype!r} is not a dtype of fastserve.types")
        self.fields = MappingProxyType(dict(fields))

    @property
    def value_type(self) -> ValueType:
        return ValueType.STRUCT

    def __str__(self) -> str:
        return "Struct({" + ", ".join(f"{name}: {dtype}" for name, dtype in self.fields.items()) + "})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Struct) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash(("Struct", frozenset(self.fields.items())))

    def __reduce__(self) -> tuple[type[Struct], tuple[dict[str, FeastType]]]:
        return Struct, (dict(self.fields),)


def _flat_collections() -> Iterator[tuple[ValueType, FeastType]]:
    for kind in (Array, Set):
        for base in _PRIMITIVES.values():
            name = base.value_type.name + kind._suffix
            if name in ValueType.__members__:
                yield ValueType[name], kind(base)


# What a number alone tells of a struct or of a nested collection; Feast assumes the same.
_UNKNOWN_STRUCT = Struct({"_value": String})
_BY_NUMBER |= dict(_flat_collections())
_BY_NUMBER |= {
    ValueType.STRUCT: _UNKNOWN_STRUCT,
    ValueType.STRUCT_LIST: Array(_UNKNOWN_STRUCT),
    ValueType.VALUE_LIST: Array(Array(String)),
    ValueType.VALUE_SET: Set(Array(String)),
}


def from_value_type(value_type: ValueType | int) -> FeastType:
    """Return the dtype of a type number.

    Structs and nested collections come back with an assumed content, because the number does not tell it.

    Raises:
        ValueError: there is no such type number, or no dtype has it (NULL).
    """
    dtype = _BY_NUMBER.get(ValueType(value_type))
    if dtype is None:
        raise ValueError(f"no dtype has the value type {ValueType(value_type).name}")
    return dtype


def to_type_text(dtype: FeastType) -> str:
    """Return the text by which Feast's registry names a type inside another one, such as `Array(INT64)`."""
    if isinstance(dtype, _Collection):
        return f"{type(dtype).__name__}({to_type_text(dtype.base_type)})"
    if isinstance(dtype, Struct):
        return json.dumps({"__struct__": _field_texts(dtype)})
    assert isinstance(dtype, PrimitiveType)
    return dtype._text


def from_type_text(text: str) -> FeastType:
    """Return the type that a text of `to_type_text` names.

    Raises:
        ValueError: the text is not of that form.
    """
    for kind in (Array, Set):
        if text.startswith(f"{kind.__name__}(") and text.endswith(")"):
            return kind(from_type_text(text[len(kind.__name__) + 1 : -1]))
    if text.startswith("{"):
        fields = json.loads(text)
        if "__struct__" in fields:
            return _from_field_texts(fields["__struct__"])
    dtype = _BY_TEXT.get(text)
    if dtype is None:
        raise ValueError(f"{text!r} does not name a type")
    return dtype


def to_struct_text(dtype: Struct) -> str:
    """Return the fields of a struct as the JSON text that the registry keeps beside a STRUCT feature."""
    return json.dumps(_field_texts(dtype))


def from_struct_text(text: str) -> Struct:
    """Return the struct of a text of `to_struct_text`.

    Raises:
        ValueError: the text is not of that form.
    """
    return _from_field_texts(json.loads(text))


def _field_texts(dtype: Struct) -> dict[str, str]:
    return {name: to_type_text(field) for name, field in dtype.fields.items()}


def _from_field_texts(fields: object) -> Struct:
    if not isinstance(fields, dict) or not all(isinstance(text, str) for text in fields.values()):
        raise ValueError("a struct's fields must be an object of type texts")
    return Struct({name: from_type_text(text) for name, text in fields.items()})
