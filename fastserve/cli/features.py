"""The FEATURES of a command: its options, their plan, and what to say of a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import click

from fastserve.errors import FeastObjectNotFoundException
from fastserve.feature_store import FeatureStore

__all__ = ["compile_plan", "features_option", "full_names_option", "json_option", "named", "suggested_service"]

features_option = click.option(
    "-f", "--features", "more", multiple=True, metavar="VIEW:FEATURE", help="A feature; may be repeated."
)
full_names_option = click.option("--full-feature-names", is_flag=True, help="Name features VIEW__FEATURE.")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal.")


def named(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise click.UsageError("give features: VIEW:FEATURE ..., or the name of a feature service")
    return names


def compile_plan(store: FeatureStore, names: Sequence[str], full_names: bool) -> tuple[Any, Any]:
    """Return the requested features, a service or references, and their plan."""
    try:
        features = store.get_feature_service(names[0]) if len(names) == 1 and ":" not in names[0] else list(names)
        return features, store.plan(features, full_names)
    except FeastObjectNotFoundException as exc:
        raise click.ClickException(f"{exc}{_suggestion(store, names)}") from None


# --- suggestions -----------------------------------------------------------------------------------------------------


def _suggestion(store: FeatureStore, names: Sequence[str]) -> str:
    """Return `; did you mean ...?` for the first name that the registry lacks, or nothing."""
    views = {view.name: [field.name for field in view.features] for view in store.list_all_feature_views()}
    if len(names) == 1 and ":" not in names[0]:
        return _service_suggestion(names[0], [service.name for service in store.list_feature_services()], views)
    for name in names:
        reference, _, feature = name.partition(":")
        view = reference.partition("@")[0]
        if view not in views:
            return _nearest(view, views)
        if feature not in views[view]:
            return _nearest(feature, views[view], f"{reference}:")
    return ""


def suggested_service(store: FeatureStore, name: str) -> str:
    """Return `; did you mean ...?` for the name of a service that the registry lacks, or nothing."""
    return _nearest(name, [service.name for service in store.list_feature_services()])


def _service_suggestion(name: str, services: list[str], views: dict[str, list[str]]) -> str:
    if views.get(name):
        return f"; {name} is a feature view, ask for {name}:{views[name][0]} or another of its features"
    return _nearest(name, services)


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""
