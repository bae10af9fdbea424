"""FeatureStore and a registry that changes, or breaks, while it serves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastserve import FeatureStore, errors
from fastserve.registry import schema_pb2 as pb
from fastserve.types import Float64
from tests.registries import bank, named, on_demand_view, store_with

AGE = "customer_profile:age"
C1 = [{"customer_id": "C1"}]
DEADLINE_SECONDS = 15.0


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def write_registry(repo: Path, message: pb.Registry) -> None:
    (repo / "data/registry.db").write_bytes(message.SerializeToString())


def test_a_changed_registry_changes_answers(redis_bank_repo: Path) -> None:
    """While requests go on: each gets the old or the new answer, and after a while all get the new one."""
    code = "def risk_py(inputs):\n    return {'ratio': [0.25] * len(inputs['amount'])}\n"
    rows = [{"customer_id": "C1", "amount": 30.0}]
    with store_with(redis_bank_repo, registry_refresh_seconds=0.05) as found:
        plan = found.plan(["risk_py:ratio"])
        assert found.get_online_features(["risk_py:ratio"], rows).to_dict()["ratio"] == [1.5]
        message = bank()
        function = named(message.on_demand_feature_views, "risk_py").spec.feature_transformation.user_defined_function
        function.body_text = code
        named(message.feature_views, "fx_rates").spec.disabled = True
        message.feature_services.remove(named(message.feature_services, "fraud_svc"))
        write_registry(redis_bank_repo, message)
        seen: list[float] = []
        wait_until(lambda: seen.append(found.get_online_features(["risk_py:ratio"], rows).to_dict()["ratio"][0]) or
                   seen[-1] == 0.25)  # fmt: skip
        assert set(seen) <= {1.5, 0.25}
        assert found.plan(["risk_py:ratio"]) is not plan
        with pytest.raises(errors.FeatureViewUnavailableError, match="fx_rates"):
            found.get_online_features(["fx_rates:asof"], C1)
        with pytest.raises(errors.FeatureServiceNotFoundException):
            found.get_feature_service("fraud_svc")


def test_plans_in_use_are_compiled_before_the_swap(redis_bank_repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request waits for a compilation that an earlier one has had."""
    with FeatureStore(redis_bank_repo) as found:
        found.get_online_features([AGE], C1)
        found.get_online_features(found.get_feature_service("fraud_svc"), C1)
        message = bank()
        del named(message.feature_services, "fraud_svc").spec.features[0]
        write_registry(redis_bank_repo, message)
        found.refresh_registry()
        service = found.get_feature_service("fraud_svc")

        def refuse(*_: object) -> None:
            raise AssertionError("compiled in a request")

        monkeypatch.setattr("fastserve.feature_store.compile_plan", refuse)
        assert found.get_online_features([AGE], C1).to_dict()["age"] == [41]
        assert list(found.get_online_features(service, C1).to_dict()) == ["customer_id", "age", "segment"]


@pytest.mark.parametrize("break_it", ["cut", "empty", "gone", "other"])
def test_a_broken_registry_keeps_serving(
    redis_bank_repo: Path, break_it: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = redis_bank_repo / "data/registry.db"
    whole = path.read_bytes()
    damage: dict[str, Callable[[], object]] = {
        "cut": lambda: path.write_bytes(whole[: len(whole) // 2]),
        "empty": lambda: path.write_bytes(b""),
        "gone": path.unlink,
        "other": lambda: path.write_bytes(b"SQLite format 3\0" * 100),
    }
    with caplog.at_level(logging.ERROR), store_with(redis_bank_repo, registry_refresh_seconds=0.05) as found:
        assert found.get_online_features([AGE], C1).to_dict()["age"] == [41]
        damage[break_it]()
        wait_until(lambda: "could not be refreshed" in caplog.text)
        with pytest.raises(errors.RegistryError, match=r"registry\.db"):
            found.refresh_registry()
        assert found.get_online_features([AGE, "txn_7d:txn_count"], C1).to_dict()["txn_count"] == [2]
        message = bank()
        named(message.feature_views, "txn_7d").spec.disabled = True
        write_registry(redis_bank_repo, message)
        wait_until(lambda: not found.get_feature_view("txn_7d").enabled)
        assert found.get_online_features([AGE], C1).to_dict()["age"] == [41]


def test_a_plan_that_no_longer_compiles_does_not_stop_the_others(redis_bank_repo: Path) -> None:
    rows = [{"customer_id": "C1", "amount": 30.0}]
    with FeatureStore(redis_bank_repo) as found:
        asked = [["risk_py:ratio"], ["txn_7d:txn_count"], ["stored_odfv:income_k"], [AGE]]
        for features in asked:
            found.get_online_features(features, rows)
        message = bank()
        udf = named(message.on_demand_feature_views, "risk_py").spec.feature_transformation.user_defined_function
        udf.body_text, udf.body = "broken(", b""
        named(message.on_demand_feature_views, "stored_odfv").spec.features[0].name = "renamed"
        message.feature_views.remove(named(message.feature_views, "txn_7d"))
        write_registry(redis_bank_repo, message)
        found.refresh_registry()
        assert found.get_online_features([AGE], rows).to_dict()["age"] == [41]
        for features, error in zip(
            asked,
            [errors.FastserveError, errors.FeatureViewNotFoundException, errors.FeatureNotFoundException],
            strict=False,
        ):
            with pytest.raises(error):
                found.get_online_features(features, rows)


def test_a_broken_on_demand_view_does_not_stop_the_refresh(redis_bank_repo: Path) -> None:
    rows = [{"customer_id": "C1", "amount": 30.0}]
    with FeatureStore(redis_bank_repo) as found:
        found.get_online_features(["risk_py:ratio"], rows)
        message = bank()
        udf = named(message.on_demand_feature_views, "risk_py").spec.feature_transformation.user_defined_function
        udf.body_text, udf.body = "broken(", b""
        write_registry(redis_bank_repo, message)
        found.refresh_registry()
        with pytest.raises(errors.TransformError, match="risk_py"):
            found.get_online_features(["risk_py:ratio"], rows)


def test_threads_while_the_registry_changes(redis_bank_repo: Path) -> None:
    """Every answer is that of one state of the registry, never of a mixture."""
    code = "def mark(inputs):\n    return {{'mark': [{0}.0], 'again': [{0}.0]}}\n"
    stop = threading.Event()
    with store_with(redis_bank_repo, registry_refresh_seconds=0.01) as found:

        def put(number: int) -> None:
            message = bank()
            added = on_demand_view("mark", code.format(number), {"mark": Float64, "again": Float64})
            added.spec.project = "bank"
            message.on_demand_feature_views.append(added)
            write_registry(redis_bank_repo, message)

        def ask(_: int) -> list[tuple[float, float]]:
            answers = []
            while not stop.is_set():
                answer = found.get_online_features(["mark:mark", "mark:again", AGE], C1).to_dict()
                assert answer["age"] == [41]
                answers.append((answer["mark"][0], answer["again"][0]))
            return answers

        put(0)
        found.refresh_registry()
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(ask, i) for i in range(4)]
            try:
                for number in range(1, 4):
                    put(number)
                    wait_until(lambda n=number: found.get_online_features(["mark:mark"], C1).to_dict()["mark"] == [n])  # type: ignore[misc]
            finally:
                stop.set()
        for future in running:
            answers = future.result()
            assert all(mark == again for mark, again in answers)
            assert [mark for mark, _ in answers] == sorted(mark for mark, _ in answers)
