"""Every exception of fastserve.

    FastserveError                                    500
    +-- ConfigError (ValueError)                      500
    +-- DefinitionError (ValueError)                  500
    |   +-- FeatureViewPinConflict
    +-- RepositoryError                               500
    +-- RegistryError                                 500
    |   +-- RegistryNotFoundError
    +-- FeastObjectNotFoundException (LookupError)    404
    |   +-- FeatureViewNotFoundException
    |   +-- FeatureNotFoundException
    |   +-- FeatureServiceNotFoundException
    |   +-- EntityNotFoundException
    |   +-- FeatureViewVersionNotFound
    |   +-- RequestDataNotFoundInEntityRowsException
    |   +-- DataSourceNotFoundException
    |   +-- ProjectObjectNotFoundException
    |   +-- PermissionObjectNotFoundException
    +-- RequestError (ValueError)                     400
    |   +-- FeatureReferenceError
    |   +-- FeatureNameCollisionError
    |   +-- FeatureViewUnavailableError
    |   +-- EntityError                               422
    |   +-- EncodeError                               422
    |   +-- WriteError                                422
    |   +-- PushSourceNotFoundException               422
    |   +-- TooManyEntitiesError                      413
    |   +-- BodyTooLargeError                         413
    +-- ServerBusyError                               503
    +-- AuthenticationError                           401
    +-- FeastPermissionError                          403
    +-- SourceError                                   500
    +-- TransformError                                500
    +-- DecodeError (ValueError)                      500
    +-- VectorError                                   500
    |   +-- VectorMissingError
    |   +-- VectorStaleError
    |   +-- VectorVersionError
    +-- NotSupportedError (NotImplementedError)       501
    +-- StoreError                                    503
        +-- StoreTimeoutError                         504
        +-- StoreOverloadedError

Names that Feast has too are spelled as in `feast.errors`, so that code which catches them needs only a new import, and
so that Feast's remote client, which looks the class up by name, raises its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

__all__ = [
    "AuthenticationError",
    "BodyTooLargeError",
    "ConfigError",
    "DataSourceNotFoundException",
    "DecodeError",
    "DefinitionError",
    "EncodeError",
    "EntityError",
    "EntityNotFoundException",
    "FastserveError",
    "FeastObjectNotFoundException",
    "FeastPermissionError",
    "FeatureNameCollisionError",
    "FeatureNotFoundException",
    "FeatureReferenceError",
    "FeatureServiceNotFoundException",
    "FeatureViewNotFoundException",
    "FeatureViewPinConflict",
    "FeatureViewUnavailableError",
    "FeatureViewVersionNotFound",
    "NotSupportedError",
    "PermissionObjectNotFoundException",
    "ProjectObjectNotFoundException",
    "RegistryError",
    "RegistryNotFoundError",
    "RepositoryError",
    "RequestDataNotFoundInEntityRowsException",
    "PushSourceNotFoundException",
    "RequestError",
    "ServerBusyError",
    "SourceError",
    "StoreError",
    "StoreOverloadedError",
    "StoreTimeoutError",
    "TooManyEntitiesError",
    "TransformError",
    "VectorError",
    "VectorMissingError",
    "VectorStaleError",
    "VectorVersionError",
    "WriteError",
    "error_from_wire",
    "error_to_wire",
]


class FastserveError(Exception):
    """Base of all errors that fastserve raises on purpose."""

    status = 500
    """The HTTP status of an answer that carries this error."""

    feast_class: str | None = None
    """The class in `feast.errors` that Feast's clients raise for it, or None when Feast has none."""

    def __str__(self) -> str:
        # LookupError and friends would quote the text.
        return str(self.args[0]) if self.args else ""

    def to_error_detail(self) -> str:
        """Return the text that Feast's server puts (as a JSON string) into the body of an error answer."""
        if self.feast_class is None:
            return str(self)
        return json.dumps({"module": "feast.errors", "class": self.feast_class, "message": str(self)})


class ConfigError(FastserveError, ValueError):
    """feature_store.yaml, or the mapping given instead, is wrong; the text names the key by its path."""


class DefinitionError(FastserveError, ValueError):
    """An object of a feature repository is wrong, by itself or beside the others.

    Attributes:
        kind: the class of the object, such as "FeatureView".
        name: the name of the object; "" when it has none.
        rule: what it breaks.
    """

    def __init__(self, kind: str, name: str, rule: str):
        super().__init__(f"{kind} {name}: {rule}" if name else f"{kind}: {rule}")
        self.kind = kind
        self.name = name
        self.rule = rule


class FeatureViewPinConflict(DefinitionError):
    """A view is pinned to one of its versions, and its definition was changed as well."""

    feast_class = "FeatureViewPinConflict"


class RepositoryError(FastserveError):
    """A repository's Python files cannot be imported; the text names file and line."""


class RegistryError(FastserveError):
    """The registry cannot be read, or does not hold what it must."""


class RegistryNotFoundError(RegistryError):
    """There is no registry yet."""


class FeastObjectNotFoundException(FastserveError, LookupError):
    """Base of the 'no such object' errors."""

    status = 404
    feast_class = "FeastObjectNotFoundException"


class FeatureViewNotFoundException(FeastObjectNotFoundException):
    """No feature view of that name."""

    feast_class = "FeatureViewNotFoundException"

    def __init__(self, name: str, project: str | None = None):
        super().__init__(_missing("Feature view", name, project))


class FeatureNotFoundException(FeastObjectNotFoundException):
    """The feature view has no such feature."""

    def __init__(self, feature: str, view: str, known: Iterable[str] = ()):
        listing = ", ".join(known)
        super().__init__(
            f"Feature {feature} not found in feature view {view}" + (f"; it has: {listing}" if listing else "")
        )


class FeatureServiceNotFoundException(FeastObjectNotFoundException):
    """No feature service of that name."""

    feast_class = "FeatureServiceNotFoundException"

    def __init__(self, name: str, project: str | None = None):
        super().__init__(_missing("Feature service", name, project))


class EntityNotFoundException(FeastObjectNotFoundException):
    """A feature view names an entity that the registry lacks."""

    feast_class = "EntityNotFoundException"

    def __init__(self, name: str, project: str | None = None):
        super().__init__(_missing("Entity", name, project))


class DataSourceNotFoundException(FeastObjectNotFoundException):
    """No data source of that name."""

    feast_class = "DataSourceObjectNotFoundException"

    def __init__(self, name: str, project: str | None = None):
        super().__init__(_missing("Data source", name, project))


class ProjectObjectNotFoundException(FeastObjectNotFoundException):
    """No project of that name in the registry."""

    feast_class = "ProjectObjectNotFoundException"

    def __init__(self, name: str, project: str | None = None):
        super().__init__(_missing("Project", name, project))


class PermissionObjectNotFoundException(FeastObjectNotFoundException):
    """No permission of that name."""

    feast_class = "PermissionObjectNotFoundException"

    def __init__(self, name: str, project: str | None = None):
        super().__init__(_missing("Permission", name, project))


class FeatureViewVersionNotFound(FeastObjectNotFoundException):
    """The feature view has no such version in its history."""

    feast_class = "FeatureViewVersionNotFound"

    def __init__(self, name: str, version: int, project: str | None = None):
        super().__init__(_missing(f"Version v{version} of feature view", name, project))


class RequestDataNotFoundInEntityRowsException(FeastObjectNotFoundException):
    """An on-demand feature view needs request data that the request does not carry."""

    feast_class = "RequestDataNotFoundInEntityRowsException"

    def __init__(self, names: Iterable[str]):
        super().__init__(f"Required request data {sorted(names)} not found in the entity rows")


class RequestError(FastserveError, ValueError):
    """The request itself is wrong; nothing was read."""

    status = 400


class FeatureReferenceError(RequestError):
    """A feature reference is not of the form `view:feature` or `view@vN:feature`."""


class FeatureNameCollisionError(RequestError):
    """Two requested features would have the same name in the answer."""

    feast_class = "FeatureNameCollisionError"

    def __init__(self, names: Iterable[str], full_feature_names: bool):
        listing = ", ".join(sorted(names))
        hint = (
            "each feature may be requested once"
            if full_feature_names
            else "ask for full_feature_names=True, or rename one of them"
        )
        super().__init__(f"Several requested features are named {listing} in the answer; {hint}")


class FeatureViewUnavailableError(RequestError):
    """The feature view is disabled, or was never made ready to be served."""


class EntityError(RequestError):
    """A join key is missing, superfluous or has a value that cannot be a key.

    Attributes:
        join_key: the column of the request, or None when the fault is not in one column.
        row: the 0-based row of the request, or None when the fault is not in one row.
    """

    status = 422

    def __init__(self, reason: str, *, join_key: str | None = None, row: int | None = None):
        place = f"entity {join_key!r}" if join_key is not None else "entity rows"
        super().__init__(f"{place}, row {row}: {reason}" if row is not None else f"{place}: {reason}")
        self.reason = reason
        self.join_key = join_key
        self.row = row


class WriteError(RequestError):
    """The rows to be written do not fit the view; nothing of them was written.

    Attributes:
        view: the view's name.
    """

    status = 422

    def __init__(self, view: str, reason: str):
        super().__init__(f"feature view {view}: {reason}")
        self.view = view
        self.reason = reason

    def __reduce__(self) -> tuple[type[WriteError], tuple[str, str]]:
        return WriteError, (self.view, self.reason)


class PushSourceNotFoundException(RequestError):
    """No feature view has a push source of that name."""

    status = 422
    feast_class = "PushSourceNotFoundException"

    def __init__(self, name: str):
        super().__init__(f"Unable to find push source {name!r}: no feature view has it")


class AuthenticationError(FastserveError):
    """The request does not say who asks, or not so that the server believes it."""

    status = 401


class FeastPermissionError(FastserveError):
    """Whoever asks may not do that."""

    status = 403
    feast_class = "FeastPermissionError"


class TooManyEntitiesError(RequestError):
    """The request has more entity rows than the server takes."""

    status = 413

    def __init__(self, rows: int, limit: int):
        super().__init__(f"{rows} entity rows; this server takes {limit} in one request")


class BodyTooLargeError(RequestError):
    """The request's body is longer than the server takes."""

    status = 413

    def __init__(self, limit: int):
        super().__init__(f"the body is longer than {limit} bytes")


class ServerBusyError(FastserveError):
    """The server has as many requests at hand as it may; nothing was done."""

    status = 503

    def __init__(self, in_flight: int):
        super().__init__(f"the server has {in_flight} requests at hand already")


class SourceError(FastserveError):
    """The rows of a data source cannot be read: it is missing, damaged, or not what the view needs."""


class EncodeError(RequestError):
    """Rows cannot be written as they are; nothing of them was.

    Attributes:
        column: the join key, feature or time column at fault.
        row: its 0-based row in the batch, or None when the whole column is at fault.
    """

    status = 422

    def __init__(self, reason: str, *, column: str, row: int | None = None):
        place = f"column {column!r}" if row is None else f"column {column!r}, row {row}"
        super().__init__(f"{place}: {reason}")
        self.reason = reason
        self.column = column
        self.row = row


class TransformError(FastserveError):
    """An on-demand feature view failed, or its code could not be loaded."""


class DecodeError(FastserveError, ValueError):
    """Stored bytes are not what they must be.

    Attributes:
        offset: the 0-based byte in the stored value where reading stopped.
        key: the entity key as hex text, or None when the value did not come from a store.
        field: `view:feature`, or None likewise.
    """

    def __init__(self, reason: str, offset: int = 0, *, key: str | None = None, field: str | None = None):
        place = f" of {field}, entity key {key}" if field is not None else ""
        super().__init__(f"{reason} at byte {offset}{place}")
        self.reason = reason
        self.offset = offset
        self.key = key
        self.field = field


class VectorError(FastserveError):
    """Precomputed vectors cannot serve the request."""


class VectorStaleError(VectorError):
    """Vectors were built for other features, or for other types of them, than the request's.

    Attributes:
        label: whose vectors they are, such as "feature service fraud".
        key: the entity key of the vector as hex text, or None for all of them.
        difference: what differs.
    """

    def __init__(self, label: str, key: str | None, difference: str):
        super().__init__(f"{label}: {_vector_of(key)} stale: {difference}")
        self.label = label
        self.key = key
        self.difference = difference


class VectorVersionError(VectorError):
    """Vectors are in a version of the format that this fastserve does not read.

    Attributes:
        version: of the format.
    """

    def __init__(self, label: str, key: str | None, version: int):
        super().__init__(
            f"{label}: {_vector_of(key)} in version {version} of the format; this fastserve reads version 1: another "
            "version of fastserve wrote it"
        )
        self.version = version


class VectorBuildReplacedError(VectorError):
    """Another build of a service's vectors has begun, or they were dropped, while one was under way."""


class VectorMissingError(VectorError):
    """There are no vectors of a service, or none of an entity that has data.

    Attributes:
        service: its name.
        rows: the 0-based rows of the request that have none; empty if there are none at all.
    """

    def __init__(self, service: str, rows: Iterable[int] = ()):
        self.service = service
        self.rows = tuple(rows)
        where = f" for rows {_listing(self.rows)} of the request, which have data" if self.rows else ""
        super().__init__(
            f"feature service {service}: no precomputed vectors{where}; build them: fastserve vectors build {service}"
        )


def _vector_of(key: str | None) -> str:
    return "its vectors are" if key is None else f"the vector of entity key {key} is"


def _listing(rows: tuple[int, ...], limit: int = 20) -> str:
    more = f" and {len(rows) - limit} more" if len(rows) > limit else ""
    return ", ".join(map(str, rows[:limit])) + more


class NotSupportedError(FastserveError, NotImplementedError):
    """Feast has it, fastserve does not."""

    status = 501


class StoreError(FastserveError):
    """The online store did not answer, or answered with an error."""

    status = 503


class StoreTimeoutError(StoreError):
    """The online store did not answer within the deadline."""

    status = 504


class StoreOverloadedError(StoreError):
    """More reads are waiting for the online store than may wait; nothing was sent, trying again later is safe."""


# --- over the wire ---------------------------------------------------------------------------------------------------

ERROR_HEADER = "x-fastserve-error"
FIELDS_HEADER = "x-fastserve-error-fields"
MAX_FIELDS_BYTES = 2048
"""Proxies refuse headers of more than a few kilobytes."""


def error_to_wire(error: FastserveError) -> dict[str, str]:
    """Return the headers of an answer by which a client of ours raises the same error: its class, its attributes.

    The message is in the body, in Feast's form. Attributes that are no JSON, or too long, are left out.
    """
    headers = {ERROR_HEADER: type(error).__name__}
    try:
        fields = json.dumps(vars(error))
    except (TypeError, ValueError):
        return headers
    if len(fields) <= MAX_FIELDS_BYTES and vars(error):
        headers[FIELDS_HEADER] = fields
    return headers


def error_from_wire(name: str, message: str, fields: str | None = None) -> FastserveError | None:
    """Return the error of this module that a server raised; None if there is no such class.

    Args:
        name: of the class, ours or Feast's.
        fields: the header with its attributes.
    """
    kind = _CLASSES.get(name)
    if kind is None:
        return None
    # Past the constructors, each of which builds its message from other arguments.
    error = kind.__new__(kind, message)
    try:
        found = json.loads(fields or "{}")
    except ValueError:
        found = {}
    for key, value in found.items() if isinstance(found, dict) else ():
        if key.isidentifier() and not hasattr(kind, key):
            setattr(error, key, value)
    return error


def _missing(kind: str, name: str, project: str | None) -> str:
    return f"{kind} {name} does not exist" + (f" in project {project}" if project else "")


def _classes() -> dict[str, type[FastserveError]]:
    ours = [c for c in globals().values() if isinstance(c, type) and issubclass(c, FastserveError)]
    feasts = {c.feast_class: c for c in ours if c.feast_class and "feast_class" in vars(c)}
    return {**feasts, **{c.__name__: c for c in ours}}


_CLASSES = _classes()
