"""The SDK against another feature server: what `FeatureStore` does when `online_store` is of type remote.

One request per call. A server of ours answers a read as protobuf (`_core.answer_bytes`), which loses no type and takes
neither side long; Feast's answers JSON.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from fastserve import online
from fastserve._core import Batch, ReadPlan, answer_head, answer_plan, read_answer, same_items
from fastserve.errors import DecodeError, FeatureReferenceError, RequestError, StoreError
from fastserve.model import FeatureService
from fastserve.remote_answers import read_json_answer
from fastserve.remote_rows import encode_entities, encode_rows
from fastserve.stores.http_wire import Answer
from fastserve.stores.remote import RemoteStore, Request

__all__ = ["ANSWER_TYPE", "Remote"]

ANSWER_TYPE = "application/x-protobuf"
ACCEPT = f"{ANSWER_TYPE}, application/json;q=0.5"
READ_PATH = "/get-online-features"

DAYS_SECONDS = 30 * 86400.0
"""The time-out of what may take as long as it likes."""

Features = FeatureService | Iterable[str]
K = TypeVar("K")
V = TypeVar("V")


class Client(Protocol):
    """What a registry of the client's own knows, which may be nothing at all.

    Answers and requests in JSON do without types; where they are known, less is lost.
    """

    def column_types(self, features: Features, full_feature_names: bool) -> Mapping[str, int]:
        """The ValueTypes of the columns of an answer."""

    def second_columns_of_source(self, name: str) -> Container[str]:
        """The columns of rows for a push source that hold UNIX_TIMESTAMPs, which Feast's server takes as numbers."""

    def second_columns_of_view(self, name: str) -> Container[str]:
        """The same of rows for a feature view."""


class Remote:
    """Reads and writes through a feature server; one object serves all threads and event loops.

    Args:
        client: what the client's own registry knows.
        max_plans: how many request shapes, and how many shapes of answers, are kept.
    """

    def __init__(self, store: RemoteStore, client: Client, max_plans: int):
        self._store = store
        self._client = client
        self._max_plans = max_plans
        self._heads: dict[tuple[object, bool, bool], bytes] = {}
        self._plans: dict[bytes, ReadPlan] = {}
        self._lock = threading.Lock()
        self._last: tuple[tuple[str, ...], bool, bool, bytes] = ((), False, False, b"")

    # --- reading ---

    def read(self, features: Features, entity_rows: object, full_feature_names: bool, view_versions: bool) -> Batch:
        """Return the answer as a filled Batch; arguments and errors as of `FeatureStore.get_online_features`."""
        request = self._read_request(features, entity_rows, full_feature_names, view_versions)
        return self._batch(self._store.ask(request), features, full_feature_names)

    async def read_async(
        self, features: Features, entity_rows: object, full_feature_names: bool, view_versions: bool
    ) -> Batch:
        """Do what `read` does without blocking the event loop."""
        request = self._read_request(features, entity_rows, full_feature_names, view_versions)
        return self._batch(await self._store.ask_async(request), features, full_feature_names)

    def _read_request(self, features: Features, entity_rows: object, full: bool, versions: bool) -> Request:
        known, last_full, last_versions, head = self._last
        if full != last_full or versions != last_versions or not same_items(features, known) or not head:
            head = self._head(features, full, versions)
        body = head + encode_entities(online.columns_of(entity_rows)) + b"}"
        return Request(READ_PATH, body, ACCEPT, repeatable=True)

    def _head(self, features: Features, full: bool, versions: bool) -> bytes:
        """The part of a request's body that does not depend on the entities."""
        name, references = _requested(features)
        head = self._heads.get((name or references, full, versions))
        if head is None:
            what: dict[str, Any] = {"feature_service": name} if name else {"features": references}
            flags = {"full_feature_names": full, "include_feature_view_version_metadata": versions}
            head = msgspec.json.encode({**what, **flags})[:-1] + b","
            self._keep(self._heads, (name or references, full, versions), head)
        if not name:
            # Most programs ask with the same list again and again: comparing its pointers beats hashing its texts.
            self._last = references, full, versions, head
        return head

    def _keep(self, cache: dict[K, V], key: K, value: V) -> None:
        with self._lock:
            while len(cache) >= self._max_plans:
                del cache[next(iter(cache))]  # the oldest
            cache[key] = value

    def _batch(self, answer: Answer, features: Features, full: bool) -> Batch:
        try:
            if answer.media_type == ANSWER_TYPE:
                return self._from_protobuf(answer.body)
            return read_json_answer(answer.body, self._client.column_types(features, full))
        except (DecodeError, ValueError, TypeError) as exc:
            raise StoreError(f"the answer of {self._store.url} is not one of a feature server: {exc}") from exc

    def _from_protobuf(self, body: bytes) -> Batch:
        head = answer_head(body)
        plan = self._plans.get(head)
        if plan is None:
            plan = answer_plan(head)
            self._keep(self._plans, head, plan)
        return read_answer(plan, body)

    # --- writing ---

    def push(self, source: str, rows: Any, refresh: bool, to: str, transform: bool) -> None:
        """Push rows to the views of a source; arguments and errors as of `FeatureStore.push`."""
        self._store.ask(self._push_request(source, rows, refresh, to, transform))

    async def push_async(self, source: str, rows: Any, refresh: bool, to: str, transform: bool) -> None:
        """Do what `push` does without blocking the event loop."""
        await self._store.ask_async(self._push_request(source, rows, refresh, to, transform))

    def write(self, view: str, rows: Any, refresh: bool, transform: bool) -> None:
        """Write rows of a view; arguments and errors as of `FeatureStore.write_to_online_store`."""
        self._store.ask(self._write_request(view, rows, refresh, transform))

    async def write_async(self, view: str, rows: Any, refresh: bool, transform: bool) -> None:
        """Do what `write` does without blocking the event loop."""
        await self._store.ask_async(self._write_request(view, rows, refresh, transform))

    def _push_request(self, source: str, rows: Any, refresh: bool, to: str, transform: bool) -> Request:
        head = {"push_source_name": source, "to": to, **_flags(refresh, transform)}
        return Request("/push", _body(head, encode_rows(rows, self._client.second_columns_of_source(source))))

    def _write_request(self, view: str, rows: Any, refresh: bool, transform: bool) -> Request:
        head = {"feature_view_name": view, **_flags(refresh, transform)}
        rows = encode_rows(rows, self._client.second_columns_of_view(view))
        return Request("/write-to-online-store", _body(head, rows))

    def materialize(
        self,
        start: datetime | None,
        end: datetime | None,
        views: Sequence[str] | None,
        disable_event_timestamp: bool,
        version: str | None,
        in_background: bool,
        force: bool,
    ) -> None:
        """Let the server load views, and wait until it has; arguments as of `FeatureStore.materialize`.

        Args:
            in_background: do not wait.
            force: begin also if views are being loaded already; only with `in_background`.
        """
        body = {
            "start_ts": start and start.isoformat(),
            "end_ts": end and end.isoformat(),
            "feature_views": views and list(views),
            "disable_event_timestamp": disable_event_timestamp,
            "version": version,
        }
        self._load("/materialize", body, in_background, force)

    def materialize_incremental(
        self, end: datetime, views: Sequence[str] | None, version: str | None, in_background: bool, force: bool
    ) -> None:
        """Likewise, from where each view's last load ended."""
        body = {"end_ts": end.isoformat(), "feature_views": views and list(views), "version": version}
        self._load("/materialize-incremental", body, in_background, force)

    def _load(self, path: str, body: dict[str, Any], in_background: bool, force: bool) -> None:
        if force and not in_background:
            raise RequestError("force=True needs run_async=True")
        query = ("?async=true" + "&force=true" * force) * in_background
        present = {name: value for name, value in body.items() if value is not None}
        self._store.ask(Request(path + query, msgspec.json.encode(present), timeout=DAYS_SECONDS))


def _requested(features: Features) -> tuple[str, tuple[str, ...]]:
    """The name of a service, of ours or of Feast's, or else references."""
    if isinstance(features, str) and ":" not in features:
        return features, ()
    if hasattr(features, "feature_view_projections"):
        service: Any = features
        return str(service.name), ()
    if isinstance(features, str):
        raise FeatureReferenceError(f"a list of references expected, got the text {features!r}")
    try:
        references = tuple(features)
    except TypeError as exc:
        raise FeatureReferenceError(f"a list of references, or a FeatureService, expected: {exc}") from exc
    for reference in references:
        if not isinstance(reference, str):
            raise FeatureReferenceError(f"a feature reference is text, got {type(reference).__name__} {reference!r}")
    return "", references


def _flags(refresh: bool, transform: bool) -> dict[str, bool]:
    return {"allow_registry_cache": not refresh, "transform_on_write": transform}


def _body(head: dict[str, Any], rows: bytes) -> bytes:
    return msgspec.json.encode(head)[:-1] + b"," + rows + b"}"
