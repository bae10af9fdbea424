"""fastserve's remote SDK: against our server it answers what it answers on the store itself; against Feast's server,
what that one says in its JSON. Feast's client against our server is in test_templates.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pandas as pd
import pytest

from fastserve import FeatureStore
from interop import fastserve_side
from interop.differences import Side, feast_questions, null_times
from interop.exchange import Json, Question, answer
from interop.prepared import Prepared
from interop.sides import FEAST_SERVE, OUR_SERVE, ask_server, serving

REQUESTS = 300


@pytest.fixture(scope="module")
def local(bank: Prepared) -> Iterator[FeatureStore]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bank.environment.items():
            patch.setenv(name, value)
        with FeatureStore(repo_path=bank.repos["redis"]) as store:
            yield store


def remote_store(bank: Prepared, url: str) -> FeatureStore:
    registry = {"path": str(bank.repos["redis"] / "data" / "registry.db")}
    registry["enable_online_feature_view_versioning"] = True  # type: ignore[assignment]
    online = {"type": "remote", "path": url, "connection_retries": 0}
    return FeatureStore(config={"project": "bank", "provider": "local", "registry": registry, "online_store": online})


def test_on_our_server(bank: Prepared, local: FeatureStore) -> None:
    """Equal in all that `exchange.answer` tells of, the bytes of each value included, but the order of the views."""
    with serving(OUR_SERVE, bank.repos["redis"], bank.environment) as server:
        with remote_store(bank, str(server.base_url)) as client:
            for question in bank.questions[:REQUESTS]:
                mine = answer(question, lambda q: fastserve_side.ask(local, q))
                theirs = answer(question, lambda q: fastserve_side.ask(client, q))
                for each in (mine, theirs):
                    each.get("versions", []).sort()
                assert theirs == mine, question


def test_on_feasts_server(bank: Prepared, local: FeatureStore) -> None:
    side = bank.side("redis", http=True)
    # Those that Feast answers in one go.
    questions = [q for q in bank.questions_over_http if feast_questions(side, q) == [q]][:REQUESTS]
    with serving(FEAST_SERVE, bank.repos["redis"], bank.environment, "--max-requests", "1000000") as server:
        told = ask_server(server, questions)
        with remote_store(bank, str(server.base_url).rstrip("/")) as client:
            for question in questions:
                wanted, found = told[question.id], fastserve_side.ask_in_json(client, question)
                if "error" in wanted:
                    assert "error" in found, question
                else:
                    assert found == without_nulls_of_times(side, question, wanted), question


def without_nulls_of_times(side: Side, question: Question, wanted: Json) -> Json:
    """The null of timestamps, a number to Feast's server, is a null in every answer of fastserve's."""
    for output in side.facts.outputs(question):
        if output.type.startswith("UNIX_TIMESTAMP"):
            null_times(side, wanted, output.name)
    return wanted


# --- writing ---------------------------------------------------------------------------------------------------------

LAST_SEEN = datetime(2025, 5, 6, 7, 8, 9, tzinfo=timezone.utc)
FEATURES = [f"card_activity:{name}" for name in ("spend_sum", "txn_count", "avg_ticket", "last_seen")]


@pytest.mark.parametrize("command", [OUR_SERVE, FEAST_SERVE], ids=["ours", "feast"])
def test_writing(bank: Prepared, local: FeatureStore, command: list[str]) -> None:
    """Last in this file: it changes what is stored."""
    customer = f"R{STORE_OF[command is OUR_SERVE]}"
    with serving(command, bank.repos["redis"], bank.environment) as server:
        with remote_store(bank, str(server.base_url).rstrip("/")) as client:
            client.push("card_pushes", row(customer, 1.5, 1))
            assert stored(local, customer) == [1.5, 7, 0.25, LAST_SEEN]
            client.write_to_online_store("card_activity", pd.DataFrame(row(customer, 2.5, 2)))
            assert stored(local, customer) == [2.5, 7, 0.25, LAST_SEEN]
            assert client.get_online_features(FEATURES, [{"customer_id": customer}]).to_dict()["spend_sum"] == [2.5]


STORE_OF = {True: "ours", False: "feast"}


def row(customer: str, spent: float, hours: int) -> dict[str, list[Any]]:
    moment = datetime(2025, 6, 1, tzinfo=timezone.utc) + timedelta(hours=hours)
    features = {"spend_sum": [spent], "txn_count": [7], "avg_ticket": [0.25], "last_seen": [LAST_SEEN]}
    return {"customer_id": [customer], **features, "at": [moment], "written": [moment]}


def stored(local: FeatureStore, customer: str) -> list[Any]:
    found = local.get_online_features(FEATURES, [{"customer_id": customer}]).to_dict()
    return [found[name.partition(":")[2]][0] for name in FEATURES]
