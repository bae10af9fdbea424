"""What /readyz says of a store."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from fastserve import FeatureStore
from fastserve.errors import StoreError
from fastserve.server import health
from fastserve.server.health import Readiness
from tests import goldens
from tests.registries import bank, named
from tests.servers import free_port


def report(readiness: Readiness) -> tuple[bool, dict[str, object]]:
    return asyncio.run(readiness.report())


def test_ready_when_everything_is(redis_bank_repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FeatureStore(redis_bank_repo) as store:
        readiness = Readiness(store)
        go, warm_plans = threading.Event(), store.warm_plans
        monkeypatch.setattr(store, "warm_plans", lambda: (go.wait(20), warm_plans()))

        async def ask() -> list[object]:
            found = [await readiness.report(), await readiness.report()]
            go.set()
            while not (await readiness.report())[0]:
                await asyncio.sleep(0.001)
            return [*found, await readiness.report()]

        said = {"ready": False, "registry": "loaded", "store": "answers", "plans": "being compiled"}
        assert asyncio.run(ask()) == [(False, said)] * 2 + [(True, {**said, "ready": True, "plans": "warm"})]
        assert store.figures().compilations == store.figures().plans  # once, however many asked


def test_not_ready_without_the_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    section = {"type": "redis", "connection_string": f"127.0.0.1:{free_port()}"}
    with FeatureStore(goldens.copy_bank(tmp_path / "repo", section)) as store:
        readiness = Readiness(store)
        readiness.warm()
        ready, said = report(readiness)
    assert not ready
    assert "cannot connect" in str(said["store"])
    assert caplog.text.count("not ready") == 1


def test_not_ready_without_a_registry(sqlite_bank_repo: Path) -> None:
    (sqlite_bank_repo / "data/registry.db").unlink()
    with FeatureStore(sqlite_bank_repo) as store:
        readiness = Readiness(store)
        readiness.warm()
        ready, said = report(readiness)
    assert (ready, said["registry"]) == (False, "there is none yet")


def test_not_ready_when_about_to_end(sqlite_bank_repo: Path) -> None:
    draining = False
    with FeatureStore(sqlite_bank_repo) as store:
        readiness = Readiness(store, lambda: draining)
        readiness.warm()
        assert report(readiness)[0]
        draining = True
        ready, said = report(readiness)
    assert (ready, said["draining"]) == (False, True)


def test_a_broken_service_is_named_and_the_others_are_served(
    sqlite_bank_repo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    message = bank()
    named(message.feature_services, "fraud_svc").spec.features[0].feature_view_name = "none"
    (sqlite_bank_repo / "data/registry.db").write_bytes(message.SerializeToString())
    with FeatureStore(sqlite_bank_repo) as store:
        readiness = Readiness(store)
        readiness.warm()
        ready, said = report(readiness)
    assert ready
    assert list(said["broken_feature_services"]) == ["fraud_svc"]  # type: ignore[call-overload]
    assert "feature service fraud_svc cannot be served: " in caplog.text


class Slow:
    """A store whose answer is waited for."""

    has_registry = True

    def __init__(self) -> None:
        self.broken_services: dict[str, str] = {}
        self.asked = 0
        self.go = threading.Event()

    def warm_plans(self) -> None:
        pass

    def check_store(self) -> None:
        self.asked += 1
        self.go.wait(20)
        raise StoreError(f"fault {self.asked}")


def test_many_who_ask_share_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Slow()
    readiness = Readiness(store)  # type: ignore[arg-type]

    async def ask() -> list[object]:
        first = [asyncio.create_task(readiness.report()) for _ in range(5)]
        await asyncio.sleep(0)
        first[0].cancel()  # who leaves does not take the look along
        store.go.set()
        found = [said["store"] for _, said in await asyncio.gather(*first[1:])]
        return [*found, (await readiness.report())[1]["store"]]

    assert asyncio.run(ask()) == ["fault 1"] * 5
    monkeypatch.setattr(health, "TRUST_SECONDS", 0)
    assert report(readiness)[1]["store"] == "fault 2"
