"""The command line: in this process where it can be, as a real process where terminals, pipes and signals matter."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from fastserve._core import Batch
from fastserve._version import __version__
from fastserve.cli import main, read
from fastserve.cli.terminal import cell
from fastserve.feature_store import FeatureStore
from tests import goldens
from tests.commands import Cli
from tests.server.serving import environment
from tests.servers import RedisServer, free_port

C1 = ("-e", "customer_id=C1")

pytestmark = pytest.mark.usefixtures("no_environment")


@pytest.fixture
def fastserve(sqlite_bank_repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(sqlite_bank_repo, capsys, monkeypatch)


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastserve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60, **options)


# --- get -------------------------------------------------------------------------------------------------------------


def test_get_writes_one_line_of_json(fastserve: Cli) -> None:
    run = fastserve("get", "customer_profile:age", "txn_7d:amount_sum", *C1, "-e", "customer_id=NOPE")
    assert run.out == '{"customer_id":["C1","NOPE"],"age":[41,null],"amount_sum":[20.0,null]}\n'
    assert (run.status, run.err) == (0, "")


def test_get_takes_a_service(fastserve: Cli) -> None:
    values = fastserve("get", "fraud_svc", *C1).json()
    assert values == {
        "customer_id": ["C1"],
        "amount_sum": [20.0],
        "txn_count": [2],
        "avg_amount": [10.0],
        "age": [41],
        "segment": ["gold"],
    }


def test_get_takes_features_as_options_too(fastserve: Cli) -> None:
    run = fastserve("get", "customer_profile:age", "-f", "customer_profile:segment", *C1)
    assert list(run.json()) == ["customer_id", "age", "segment"]


def test_get_gives_full_names(fastserve: Cli) -> None:
    assert list(fastserve("get", "customer_profile:age", *C1, "--full-feature-names").json()) == [
        "customer_id",
        "customer_profile__age",
    ]


def test_get_reads_views_of_several_keys(fastserve: Cli) -> None:
    keys = ("-e", "merchant_id=M42", "-e", "account_id=8", "-e", "merchant_id=M1", "-e", "account_id=7")
    assert fastserve("get", "account_merchant:visits", *keys).json() == {
        "merchant_id": ["M42", "M1"],
        "account_id": [8, 7],
        "visits": [2**53 + 1, 0],
    }


def test_get_needs_no_entity_for_a_view_without_keys(fastserve: Cli) -> None:
    assert fastserve("get", "fx_rates:eur_usd").json() == {"eur_usd": [1.09]}


def test_get_gives_request_data_its_type(fastserve: Cli) -> None:
    assert fastserve("get", "odfv_svc", *C1, "-e", "amount=7").json()["ratio"] == [0.35]
    line = fastserve("get", "odfv_svc", *C1, "-e", "amount=seven").error(2)
    assert "-e amount=seven: amount is of type DOUBLE" in line


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("False", False), ("0", False)])
def test_booleans_of_request_data(text: str, value: bool) -> None:
    assert read._typed("x", text, "BOOL") is value
    with pytest.raises(click.UsageError, match="-e x=maybe"):
        read._typed("x", "maybe", "BOOL")


def test_values_may_have_equal_signs(fastserve: Cli) -> None:
    assert fastserve("get", "customer_profile:age", "-e", "customer_id=a=b").json()["customer_id"] == ["a=b"]


def test_text_of_any_script_stays_as_it_is(fastserve: Cli) -> None:
    assert '"Ünïcødé 顧客"' in fastserve("get", "customer_profile:age", "-e", "customer_id=Ünïcødé 顧客").out


# --- tables ----------------------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_table_and_notes(fastserve: Cli) -> None:
    features = ("customer_profile:age", "customer_profile:segment", "customer_profile:labels")
    customers = [part for name in ("C1", "NOPE", "C3") for part in ("-e", f"customer_id={name}")]
    run = fastserve("get", *features, *customers, terminal=True)
    assert (run.status, run.err) == (0, "")
    assert [re.split(r"  +", line.strip()) for line in run.out.splitlines() if not line.startswith("---")] == [
        ["customer_id", "age", "segment", "labels"],
        ["C1", "41", "gold", '["a", "b"]'],
        ["NOPE", "null", "null", "null"],
        ["C3", "null", "null", "null"],
        ["NOT_FOUND: age, segment, labels of customer_id=NOPE"],
        ["NULL_VALUE: age, segment, labels of customer_id=C3"],
    ]


def test_a_terminal_gets_json_if_asked(fastserve: Cli) -> None:
    assert fastserve("get", "customer_profile:age", *C1, "--json", terminal=True).json()["age"] == [41]


def test_many_entities_of_one_status_are_counted(fastserve: Cli) -> None:
    customers = [part for number in range(9) for part in ("-e", f"customer_id=X{number}")]
    out = fastserve("get", "customer_profile:age", *customers, terminal=True).out
    shown = "; ".join(f"customer_id=X{number}" for number in range(5))
    assert f"NOT_FOUND: age of {shown} and 4 more\n" in out


def test_an_entity_less_view_has_no_entity_in_its_notes() -> None:
    answer = {
        "metadata": {"feature_names": ["rate"]},
        "results": [{"values": [None], "statuses": ["NOT_FOUND"]}],
    }
    assert read._table(answer, 0).splitlines()[-1] == "NOT_FOUND: rate"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        ("null", '"null"'),
        ("", '""'),
        (" x", '" x"'),
        ("\x1b[31mred", '"\\u001b[31mred"'),
        ("a\nb", '"a\\nb"'),
        ("顧客", "顧客"),
        (0.1, "0.1"),
        (True, "true"),
        (2**63 - 1, "9223372036854775807"),
        (["顧", None], '["顧", null]'),
        (["\x9b2J"], '["\\u009b2J"]'),
        ({"a": [1]}, '{"a": [1]}'),
    ],
)
def test_cells_are_unambiguous_and_cannot_steer_the_terminal(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_a_real_terminal_gets_a_table(sqlite_bank_repo: Path) -> None:
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "fastserve", "-c", str(sqlite_bank_repo), "get", "customer_profile:age", *C1]
    with subprocess.Popen(command, stdout=its, stderr=subprocess.PIPE, env=environment()) as running:
        os.close(its)
        _, err = running.communicate(timeout=60)
    text = os.read(ours, 10_000).decode()
    os.close(ours)
    assert (running.returncode, err) == (0, b"")
    assert text.split() == ["customer_id", "age", "-------------", "-----", "C1", "41"]


# --- get-online-features ---------------------------------------------------------------------------------------------


def test_feasts_verb_writes_feasts_layout(fastserve: Cli) -> None:
    run = fastserve("get-online-features", *C1, "-f", "customer_profile:age", "-f", "customer_profile:segment")
    expected = {"customer_id": ["C1"], "age": [41], "segment": ["gold"]}
    assert (run.status, run.out) == (0, json.dumps(expected, indent=4) + "\n")


def test_values_that_json_lacks_are_written_as_by_the_server(on_redis: Cli) -> None:
    features = ("all_types:f_bytes", "all_types:f_ts", "all_types:u_uuid", "all_types:d_dec", "all_types:z_ts")
    options = [part for feature in features for part in ("-f", feature)]
    values = on_redis("get-online-features", *C1, *options).json()
    recorded = next(p for p in goldens.load("http_pairs")["pairs"] if p["name"] == "all_types_values")["response"]
    body = json.loads(recorded["body_text"])
    expected = dict(zip(body["metadata"]["feature_names"], body["results"], strict=True))
    assert values == {name: expected[name]["values"] for name in values}
    assert len(values) == 6


def test_feasts_verb_requires_both_options(fastserve: Cli) -> None:
    assert "'-e' / '--entities'" in fastserve("get-online-features", "-f", "customer_profile:age").error(2)
    assert "'-f' / '--features'" in fastserve("get-online-features", *C1).error(2)


# --- plan ------------------------------------------------------------------------------------------------------------


def test_plan_tells_what_is_read(on_redis: Cli) -> None:
    plan = on_redis("plan", "odfv_svc").json()
    assert plan["features"] == ["amount_sum", "ratio", "flag"]
    assert (plan["join_keys"], plan["request_data"]) == (["customer_id"], ["amount"])
    assert plan["commands_per_entity"] == 1
    (group,) = plan["groups"]
    assert (group["join_keys"], group["commands"]) == (["customer_id"], ["HMGET key and 4 fields"])
    assert group["fields"] == [
        {"field": "txn_7d:amount_sum", "type": "DOUBLE"},
        {"field": "txn_7d:txn_count", "type": "INT64"},
        {"field": "txn_7d:avg_amount", "type": "FLOAT"},
        {"field": "_ts:txn_7d", "type": "event time"},
    ]
    assert plan["on_demand"] == [
        {
            "view": "risk_py",
            "mode": "python",
            "inputs": ["txn_7d:amount_sum", "txn_7d:txn_count", "txn_7d:avg_amount"],
            "request_data": ["amount"],
            "outputs": ["ratio", "flag"],
        }
    ]


@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("features", "entities"),
    [
        (["customer_profile:age", "txn_7d:amount_sum"], {"customer_id": ["8 bytes."]}),
        (["account_merchant:spend"], {"merchant_id": ["8 bytes."], "account_id": [7]}),
        (["account_balance:balance", "customer_profile:age"], {"customer_id": ["8 bytes."], "account_id": [1]}),
        (["fx_rates:eur_usd"], {}),
    ],
)
def test_plan_counts_the_bytes_that_are_sent(
    on_redis: Cli, features: list[str], entities: dict[str, list[Any]], version: int
) -> None:
    yaml = on_redis.repo / "feature_store.yaml"
    old = "entity_key_serialization_version: 3"
    assert old in yaml.read_text()
    yaml.write_text(yaml.read_text().replace(old, f"entity_key_serialization_version: {version}"))
    counted = sum(group["bytes_per_entity"] for group in on_redis("plan", *features).json()["groups"])
    with FeatureStore(on_redis.repo) as store:
        sent = Batch(store.plan(features), entities, 1).commands(1 << 20)
    assert counted == len(sent or b"")


def test_plan_of_sqlite_names_the_tables(fastserve: Cli) -> None:
    (group,) = fastserve("plan", "fraud_svc").json()["groups"]
    assert group["commands"] == [
        "SELECT from bank_txn_7d of 3 features",
        "SELECT from bank_customer_profile of 2 features",
    ]
    assert group["bytes_per_entity"] is None


def test_plan_on_a_terminal_is_a_table(on_redis: Cli) -> None:
    run = on_redis("plan", "account_merchant:spend", "fx_rates:asof", "risk_py:flag", terminal=True)
    assert (run.status, run.err) == (0, "")
    lines = [re.split(r"  +", line.strip()) for line in run.out.splitlines()]
    assert lines[0] == ["join keys", "command", "bytes", "field", "type"]
    assert [line[0] for line in lines if "HMGET" in str(line)] == ["account_id, merchant_id", "(none)", "customer_id"]
    assert ["account_merchant:spend", "DOUBLE"] == lines[2][-2:]
    assert lines[-4:-1] == [
        ["on-demand view risk_py (python): flag"],
        ["the request must carry: amount"],
        ["3 commands per entity"],
    ]


def test_plan_reads_nothing(on_redis: Cli, redis_bank: RedisServer) -> None:
    with redis_bank.client() as client:
        before = client.info("stats")["total_connections_received"]
        assert on_redis("plan", "fraud_svc").status == 0
        assert client.info("stats")["total_connections_received"] == before


# --- the repository --------------------------------------------------------------------------------------------------


def test_the_file_may_have_any_name(fastserve: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    (fastserve.repo / "feature_store.yaml").rename(other)
    assert "feature_store.yaml" in fastserve("get", "customer_profile:age", *C1).error(1)
    assert fastserve("-f", str(other), "get", "customer_profile:age", *C1).json()["age"] == [41]


def test_the_environment_may_hold_the_repository(fastserve: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURE_REPO_DIR_ENV_VAR", str(fastserve.repo))
    with pytest.raises(SystemExit) as end:
        main(["get", "customer_profile:age", *C1])
    assert end.value.code == 0


def test_the_environment_may_hold_the_file(fastserve: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = fastserve.repo / "feature_store.yaml"
    monkeypatch.setenv("FEATURE_STORE_YAML_BASE64", base64.b64encode(yaml.read_bytes()).decode())
    yaml.unlink()
    assert fastserve("get", "customer_profile:age", *C1).json()["age"] == [41]


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nope"], ["--nope", "fastserve --help"]),
        (["nope"], ["'nope'", "fastserve --help"]),
        (["saved-datasets", "list"], ["'saved-datasets'"]),
        (["permissions", "check"], ["'check'"]),
        (["permissions", "list", "-v"], ["-v"]),
        (["-f", "/no/such/file", "version"], ["/no/such/file"]),
        (["--log-level", "loud", "version"], ["--log-level", "loud"]),
        (["get", "customer_profile:age", "--nope"], ["--nope", "fastserve get --help"]),
        (["get", *C1], ["give features"]),
        (["get", "customer_profile:age"], ["-e customer_id=VALUE"]),
        (["get", "customer_profile:age", "-e", "C1"], ["-e C1: KEY=VALUE expected"]),
        (["get", "customer_profile:age", "-e", "=C1"], ["-e =C1: KEY=VALUE expected"]),
        (["get", "x:y", "-e", "a=1", "-e", "b=1", "-e", "a=2"], ["same number", "a: 2", "b: 1"]),
        (["serve", "-t", "grpc"], ["--type", "grpc"]),
        (["serve", "--log-format", "xml"], ["--log-format", "'xml' is not one of"]),
        (["serve", "--metrics-port", "-1"], ["metrics_port: -1; expected 0 or more"]),
        (["serve", "-k", "key.pem"], ["--key", "--cert"]),
        (["serve", "-c", "cert.pem"], ["--key", "--cert"]),
        (["serve", "-p", "http"], ["--port", "http"]),
        (["serve", "-w", "0"], ["workers"]),
        (["serve", "--max-requests", "-1"], ["max_requests"]),
    ],
    ids=lambda part: " ".join(part),
)
def test_a_wrong_command_line_is_one_line_and_status_2(fastserve: Cli, arguments: list[str], words: list[str]) -> None:
    line = fastserve(*arguments).error(2)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (["custmer_profile:age"], ["custmer_profile", "did you mean customer_profile?"]),
        (["customer_profile:agee"], ["agee", "did you mean customer_profile:age?"]),
        (["customer_profile:age", "txn_7d:amount_su"], ["amount_su ", "did you mean txn_7d:amount_sum?"]),
        (["fraud_scv"], ["fraud_scv", "did you mean fraud_svc?"]),
        (["customer_profile"], ["is a feature view, ask for customer_profile:age"]),
        (["risk_py:rato"], ["rato", "did you mean risk_py:ratio?"]),
        (["qqqqqq:x"], ["Feature view qqqqqq does not exist"]),
        (["customer_profile:age", "customer_profile"], ["Invalid feature reference 'customer_profile'"]),
        (["customer_profile:age", "customer_profile:age"], ["age"]),
    ],
    ids=lambda part: " ".join(part),
)
def test_an_unknown_name_is_named_with_the_nearest(fastserve: Cli, features: list[str], words: list[str]) -> None:
    for verb in ("get", "plan"):
        line = fastserve(verb, *features, *(C1 if verb == "get" else ())).error(1)
        assert all(word in line for word in words), line


def test_what_is_not_installed_is_one_line(fastserve: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = fastserve("init", str(fastserve.repo / "shop")).error(1)
    assert line == "pyarrow is not installed: pip install 'fastserve[materialize]'"


def test_a_bad_key_is_named(fastserve: Cli) -> None:
    line = fastserve("get", "account_balance:balance", "-e", "account_id=7", "-e", "account_id=x").error(1)
    assert "account_id" in line
    assert "row 1" in line


def test_failures_of_the_repository_are_one_line(fastserve: Cli) -> None:
    (fastserve.repo / "data" / "online.db").unlink()
    assert "online.db" in fastserve("get", "customer_profile:age", *C1).error(1)
    (fastserve.repo / "data" / "registry.db").write_bytes(b"\xff broken")
    assert "registry.db" in fastserve("get", "customer_profile:age", *C1).error(1)
    (fastserve.repo / "feature_store.yaml").write_text("project: [")
    assert "feature_store.yaml" in fastserve("get", "customer_profile:age", *C1).error(1)


def test_a_store_that_is_down_is_one_line(fastserve: Cli) -> None:
    goldens.copy_bank(fastserve.repo, {"type": "redis", "connection_string": f"127.0.0.1:{free_port()}"})
    assert "127.0.0.1" in fastserve("get", "customer_profile:age", *C1).error(1)


def test_a_bug_keeps_its_traceback(fastserve: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(read, "_read", broken)
    with pytest.raises(ZeroDivisionError):
        main(["-c", str(fastserve.repo), "get", "customer_profile:age", *C1])


# --- the frame -------------------------------------------------------------------------------------------------------


def test_version() -> None:
    done = process("version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fastserve {__version__}\n", "")


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    for verb in ("get", "get-online-features", "plan", "serve", "version"):
        assert f"\n  {verb} " in err


@pytest.mark.parametrize("verb", [[], ["get"], ["get-online-features"], ["plan"], ["serve"], ["version"]], ids=str)
def test_help_is_no_error(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*verb, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"Usage: {' '.join(['fastserve', *verb])} ")


def test_errors_of_a_process(tmp_path: Path) -> None:
    done = process("-c", str(tmp_path), "get", "v:f", *C1)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert process("get").returncode == 2


@pytest.mark.parametrize("verb", ["get", "plan"])
def test_a_reader_that_has_left_is_no_error(sqlite_bank_repo: Path, verb: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ["-c", str(sqlite_bank_repo), verb, "fraud_svc", *(C1 if verb == "get" else ())]
    command = [sys.executable, "-m", "fastserve", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment(), timeout=60)
    os.close(writer)
    assert done.stderr == b""


def test_ctrl_c_is_quiet(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        repo = goldens.copy_bank(tmp_path / "bank", {"type": "redis", "connection_string": address})
        command = [sys.executable, "-m", "fastserve", "-c", str(repo), "get", "customer_profile:age", *C1]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as running:
            connection, _ = silent.accept()
            assert connection.recv(1)  # it has asked, and waits
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=30)
            connection.close()
        # The newline ends the line on which the terminal has shown ^C.
        assert (out, err) == (b"", b"\n")
        assert running.returncode == 130
