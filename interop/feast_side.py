"""Feast's side; runs in the environment that has Feast.

    python -m interop.feast_side prepare REPO               apply, materialize, push, write; leaves REPO/facts.json
    python -m interop.feast_side answer REPO IN OUT ...     answer the questions of one file into another

REPO is a folder with feature_store.yaml; more of these threes may follow.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
from feast import FeatureService, FeatureStore, FeatureView, OnDemandFeatureView
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from feast.type_map import python_values_to_proto_values

from interop.bank import features, rows, stored
from interop.exchange import Json, Question, answer, read_lines, write_lines
from interop.tagged import tag

START, END = datetime(2000, 1, 1, tzinfo=timezone.utc), datetime(2026, 1, 1, tzinfo=timezone.utc)


# --- preparing -------------------------------------------------------------------------------------------------------


def prepare(repo: Path) -> None:
    """Fill the registry and the online store of a repository, all through Feast."""
    random_rows = rows.write(repo / "data")
    os.chdir(repo)  # Feast takes the paths of sources from there
    store = FeatureStore(repo_path=str(repo))
    for version in stored.TIERS:
        store.apply([stored.customer, version])
        store.materialize(START, END, ["tier"])
    store.apply(features.OBJECTS)
    store.materialize(START, END, [v.name for v in stored.VIEWS if v is not stored.everything])
    customers = write_everything(store, random_rows)
    store.push("card_pushes", rows.card_pushes(random_rows))
    store.push("fraud_pushes", pd.read_parquet("data/fraud_labels.parquet"))
    # After the push: this writes the stored on-demand view, and the vectors of all that is there now.
    store.materialize(START, END, ["income_band"])
    store.precompute_feature_service(stored.fast_v1.name)
    (repo / "facts.json").write_text(json.dumps(facts(store, customers), sort_keys=True))


def write_everything(store: FeatureStore, random_rows: rows.Rows) -> list[str]:
    """Write the rows that no Parquet file can hold; return their customers."""
    customers, times, columns = rows.everything(random_rows)
    write_values(store, customers, times, columns)
    return customers


def write_values(
    store: FeatureStore, customers: list[str], times: list[datetime], columns: dict[str, list[Any]]
) -> None:
    """Write rows of the view `everything`, with Feast's own conversion of values."""
    view = store.get_feature_view("everything")
    values = {f.name: python_values_to_proto_values(columns[f.name], f.dtype.to_value_type()) for f in view.features}
    data = [
        (customer_key(customer), {name: column[i] for name, column in values.items()}, times[i], None)
        for i, customer in enumerate(customers)
    ]
    store._get_provider().online_write_batch(store.config, view, data, None)


def customer_key(customer: str) -> EntityKey:
    return EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=customer)])


# --- facts: what the questions can be about --------------------------------------------------------------------------


def facts(store: FeatureStore, customers: list[str]) -> Json:
    """Describe the repository for those who cannot import Feast.

    Args:
        customers: those that the view `everything` has rows of.
    """
    on_demand = store.list_on_demand_feature_views()
    stored_views = [*batch_views(store), *(view for view in on_demand if view.write_to_online_store)]
    tiers = [store.registry.get_feature_view_by_version("tier", store.project, number) for number in range(3)]
    return {
        "entities": {entity.join_key: entity.name for entity in store.list_entities()},
        "views": {view.name: of_view(view) for view in stored_views}
        | {f"tier@v{number}": of_view(view) for number, view in enumerate(tiers)}
        | {"tier@latest": of_view(store.get_feature_view("tier"))},
        "on_demand": {view.name: of_on_demand(view) for view in on_demand if not view.write_to_online_store},
        "services": {service.name: of_service(service) for service in store.list_feature_services()},
        "rows": known_rows(store) | {"everything": {"customer_id": tag(customers)}},
    }


def batch_views(store: FeatureStore) -> list[Any]:
    """The views that have a file."""
    return [*store.list_feature_views(), *store.list_stream_feature_views(), *store.list_label_views()]


def types_of(fields: Iterable[Any]) -> Json:
    return {field.name: field.dtype.to_value_type().name for field in fields}


def of_view(view: Any) -> Json:
    keys = {name: kind for name, kind in types_of(view.entity_columns).items() if name != "__dummy_id"}
    ttl = getattr(view, "ttl", None)
    return {
        "features": {name: kind for name, kind in types_of(view.features).items() if name not in keys},
        "join_keys": keys,
        "ttl": ttl.total_seconds() if ttl else 0,
        "version": view.current_version_number or 0,
    }


def of_on_demand(view: OnDemandFeatureView) -> Json:
    return {
        "features": types_of(view.features),
        "sources": sorted(projection.name for projection in view.source_feature_view_projections.values()),
        "request_data": types_of(f for source in view.source_request_sources.values() for f in source.schema),
        "mode": view.mode,
        "singleton": view.singleton,
    }


def of_service(service: FeatureService) -> Json:
    return {
        "precomputed": service.precompute_online,
        "projections": [
            {
                "view": p.name if p.version_tag is None else f"{p.name}@v{p.version_tag}",
                "alias": p.name_to_use(),
                "features": [feature.name for feature in p.features],
                "join_key_map": dict(p.join_key_map),
            }
            for p in service.feature_view_projections
        ],
    }


def known_rows(store: FeatureStore) -> Json:
    """View -> some keys that it has a row for, column by column."""
    known = {view.name: keys_in_file(view) for view in batch_views(store) if view.join_keys != ["__dummy_id"]}
    return known | {"income_band": known["customer_profile"]}


def keys_in_file(view: FeatureView) -> Json:
    return keys_in_table(view, pd.read_parquet(view.batch_source.path))


def keys_in_table(view: FeatureView, table: pd.DataFrame) -> Json:
    columns = {name: table[name] for name in view.join_keys}
    return {
        name: tag([v.to_pydatetime() if isinstance(v, pd.Timestamp) else v for v in column.tolist()])
        for name, column in columns.items()
    }


# --- answering -------------------------------------------------------------------------------------------------------


def ask(store: FeatureStore, question: Question) -> Any:
    """Return Feast's OnlineResponse."""
    return store.get_online_features(
        features=store.get_feature_service(question.service) if question.service else list(question.features),
        entity_rows=question.entity_rows(Value, RepeatedValue),
        full_feature_names=question.full_feature_names,
        include_feature_view_version_metadata=question.versions,
    )


def answer_all(*paths: Path) -> None:
    """Answer the questions of a file into another, for each repository."""
    for repo, questions, answers in zip(paths[::3], paths[1::3], paths[2::3], strict=True):
        answer_one(FeatureStore(repo_path=str(repo)), questions, answers)


def answer_one(store: FeatureStore, questions: Path, answers: Path) -> None:
    asked = map(Question.from_json, read_lines(questions))
    write_lines(answers, (answer(question, lambda q: ask(store, q)) for question in asked))


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {"prepare": prepare, "answer": answer_all}
    commands[sys.argv[1]](*(Path(argument).absolute() for argument in sys.argv[2:]))
