"""Feast's own client, whose online store is `type: remote`, reads and writes through our server, by both lanes: what it
gets is what our SDK reads from the store itself, before and after it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastserve import FeatureStore
from interop.sides import OUR_SERVE, FeastSide, serving
from tests import goldens
from tests.servers import RedisServer

QUESTIONS: dict[str, tuple[Any, list[dict[str, Any]], bool]] = {
    "features": (
        ["customer_profile:age", "customer_profile:segment", "txn_7d:amount_sum"],
        [{"customer_id": key} for key in ("C1", "NOPE", "C2", "C1")],
        False,
    ),
    "service": ("transfer_svc", [{"payer_id": "C1", "payee_id": "C2"}], True),
    "on demand": (
        ["risk_py:ratio", "risk_py:flag"],
        [{"customer_id": "C1", "amount": 100.0}, {"customer_id": "C2", "amount": 1.0}],
        False,
    ),
    "integers": (
        ["account_balance:balance"],
        [{"account_id": 7}, {"account_id": 8}],
        False,
    ),
}


def direct(store: FeatureStore) -> dict[str, dict[str, list[Any]]]:
    def read(features: Any, rows: list[dict[str, Any]], full_feature_names: bool) -> dict[str, list[Any]]:
        chosen = store.get_feature_service(features) if isinstance(features, str) else features
        return store.get_online_features(chosen, rows, full_feature_names).to_dict()

    return {name: read(*question) for name, question in QUESTIONS.items()}


def remote_repo(folder: Path, bank: Path, address: str) -> Path:
    """Write the repository of a client: the registry is the bank's, the online store our server."""
    config = yaml.safe_load((bank / "feature_store.yaml").read_text())
    config["registry"] = str(bank / "data" / "registry.db")
    config["online_store"] = {"type": "remote", "path": address}
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.parametrize("lane", [(), ("--no-fast-lane",)], ids=["fast", "asgi"])
def test_reads_and_writes(short_folder: Path, tmp_path: Path, lane: tuple[str, ...]) -> None:
    with RedisServer.start(short_folder / f"remote{len(lane)}") as redis:
        with redis.client() as client:
            goldens.fill_redis(client)
        bank = goldens.copy_bank(tmp_path / "bank", {"type": "redis", "connection_string": redis.connection_string})
        with FeatureStore(bank) as store, serving(OUR_SERVE, bank, {}, *lane) as server:
            repo = remote_repo(tmp_path / "client", bank, str(server.base_url).rstrip("/"))
            before = direct(store)
            FeastSide(tmp_path / "feast", {}).run("interop.remote_client", repo, tmp_path / "said")
            said = json.loads((tmp_path / "said").read_text())
            assert said["before"] == before
            assert said["after"] == direct(store)
    assert said["after"]["integers"]["balance"] == [1.25, -2.5]
    assert said["after"]["features"]["amount_sum"] == [500.5, None, 7.0, 500.5]
    # Feast's client raises the class that the server names, if it has one.
    view, data, _ = said["refused"]
    assert (view, data) == ("FeatureViewNotFoundException", "RequestDataNotFoundInEntityRowsException")
    assert all(said["refused"])
