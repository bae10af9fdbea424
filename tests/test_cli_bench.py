"""`fastserve bench`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.commands import Cli
from tests.servers import RedisServer, free_port

FEW = ("--calls", "2", "--workers", "0")

pytestmark = pytest.mark.usefixtures("no_environment")


@pytest.fixture
def fastserve(bank_repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(bank_repo, capsys, monkeypatch)


def test_a_service_is_measured_with_entities_of_the_store(fastserve: Cli) -> None:
    run = fastserve("bench", "fraud_svc", "--rows", "1,2", *FEW)
    assert run.status == 0, run
    found = json.loads(run.out)
    assert found["project"] == "bank"
    assert [(one["name"], one["rows"]) for one in found["found"]] == [("fraud_svc", 1), ("fraud_svc", 2)]
    assert {"plan", "wait", "decode", "emit"} == found["found"][0]["stages"].keys()
    assert run.err.splitlines() == ["fraud_svc: 1 rows", "fraud_svc: 2 rows"]


def test_a_terminal_gets_a_table(on_redis: Cli) -> None:
    run = on_redis("bench", "fraud_svc", "customer_profile:age", "--rows", "1", *FEW, terminal=True)
    head, _, first, second, *_ = run.out.splitlines()
    assert head.split()[:8] == ["read", "rows", "p50", "p95", "p99", "mean", "floor", "x"]
    assert first.split()[:2] == ["fraud_svc", "1"]
    assert second.startswith("1 features")
    assert "floor: the same bytes over a bare socket" in run.out


def test_all_services_are_measured_but_those_that_cannot(on_redis: Cli) -> None:
    run = on_redis("bench", "--rows", "1", *FEW)
    measured = {one["name"] for one in json.loads(run.out)["found"]}
    assert {"fraud_svc", "fraud_pre"} <= measured
    left_out = {line.split()[0] for line in run.err.splitlines() if "is left out: " in line}
    assert "odfv_svc" in left_out
    assert not measured & left_out


def test_entities_of_a_file(fastserve: Cli, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("customer_id\nC1\nNOPE\n")
    run = fastserve("bench", "fraud_svc", "--entities", str(file), "--rows", "2,100", *FEW)
    assert [one["rows"] for one in json.loads(run.out)["found"]] == [2]


def test_request_data_must_be_given(fastserve: Cli, tmp_path: Path) -> None:
    assert "needs request data (amount)" in _error(fastserve("bench", "odfv_svc", *FEW).err)
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"customer_id": "C1", "amount": 2.5}]))
    run = fastserve("bench", "odfv_svc", "--entities", str(file), *FEW)
    assert run.status == 0, run


def test_a_page_with_plots(fastserve: Cli, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert fastserve("bench", "fraud_svc", "--rows", "1,2", "--html", str(page), *FEW).status == 0
    text = page.read_text()
    assert text.count("<svg") == 3
    assert "<td>fraud_svc</td>" in text


def test_mistakes_are_one_line(fastserve: Cli, tmp_path: Path) -> None:
    assert fastserve("bench", "fraud_sv").error(1).endswith("does not exist in project bank; did you mean fraud_svc?")
    assert "did you mean customer_profile:age?" in fastserve("bench", "customer_profile:agee").error(1)
    for rows in ("0", "a", "1,,2"):
        assert "is not a list of numbers" in fastserve("bench", "--rows", rows).error(2)
    assert "does not exist" in fastserve("bench", "--entities", str(tmp_path / "none.csv")).error(2)


def test_an_empty_store_is_one_line(on_redis: Cli, redis_bank: RedisServer) -> None:
    with redis_bank.client() as client:
        client.flushall()
    assert "the online store holds no entity of customer_id" in on_redis("bench", "fraud_svc", *FEW).error(1)


def test_a_store_that_is_down_is_one_line(on_redis: Cli) -> None:
    file = on_redis.repo / "feature_store.yaml"
    file.write_text(re.sub(r"127\.0\.0\.1:\d+|localhost:\d+", f"127.0.0.1:{free_port()}", file.read_text()))
    assert "cannot connect: Connection refused" in on_redis("bench", "fraud_svc", *FEW).error(1)


def _error(text: str) -> str:
    [line] = [line for line in text.splitlines() if line.startswith("Error: ")]
    return line
