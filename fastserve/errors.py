"""Every exception of fastserve.

    FastserveError                                    500
    +-- ConfigError (ValueError)                      500
    +-- RegistryError                                 500
    +-- FeastObjectNotFoundException (LookupError)    404
    |   +-- FeatureViewNotFoundException
    |   +-- FeatureNotFoundException
    |   +-- FeatureServiceNotFoundException
    |   +-- EntityNotFoundException
    |   +-- FeatureViewVersionNotFound
    |   +-- RequestDataNotFoundInEntityRowsException
    |   +-- DataSourceNotFoundException
    +-- RequestError (ValueError)                     400
    |   +-- FeatureReferenceError
    |   +-- FeatureNameCollisionError
    |   +-- FeatureViewUnavailableError
    |   +-- EntityError                               422
    +-- TransformError                                500
    +-- DecodeError (ValueError)                      500
    +-- NotSupportedError (NotImplementedError)       501
    +-- StoreError                                    503
        +-- StoreTimeoutError                         504

Names that Feast has too are spelled as in `feast.errors`, so that code which catches them needs only a new import, and
so that Feast's remote client, which looks the class up by name, raises its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "DataSourceNotFoundException",
    "DecodeError",
    "EntityError",
    "EntityNotFoundException",
    "FastserveError",
    "FeastObjectNotFoundException",
    "FeatureNameCollisionError",
    "FeatureNotFoundException",
    "FeatureReferenceError",
    "FeatureServiceNotFoundException",
    "FeatureViewNotFoundException",
    "FeatureViewUnavailableError",
    "FeatureViewVersionNotFound",
    "NotSupportedError",
    "RegistryError",
    "RequestDataNotFoundInEntityRowsException",
    "RequestError",
    "StoreError",
    "StoreTimeoutError",
    "TransformError",
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


class RegistryError(FastserveError):
    """The registry cannot be read, or does not hold what it must."""


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


class NotSupportedError(FastserveError, NotImplementedError):
    """Feast has it, fastserve does not."""

    status = 501


class StoreError(FastserveError):
    """The online store did not answer, or answered with an error."""

    status = 503


class StoreTimeoutError(StoreError):
    """The online store did not answer within the deadline."""

    status = 504


def _missing(kind: str, name: str, project: str | None) -> str:
    return f"{kind} {name} does not exist" + (f" in project {project}" if project else "")
