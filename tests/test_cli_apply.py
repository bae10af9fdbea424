"""`apply`, `plan`, `teardown`, `init`, and the verbs that show or delete what the registry holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from fastserve.changes import Change, FieldChange
from fastserve.cli.apply import show_changes
from tests import goldens
from tests.commands import Cli
from tests.repos import change, registry_of, write_repo

pytestmark = pytest.mark.usefixtures("no_environment")


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line over a repository that is not yet applied."""
    return Cli(write_repo(tmp_path / "shop"), capsys, monkeypatch)


@pytest.fixture
def bank(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line over the registry that Feast made."""
    folder = goldens.copy_bank(tmp_path / "bank", {"type": "sqlite", "path": "data/online.db"})
    return Cli(folder, capsys, monkeypatch)


def said(cli: Cli, *arguments: str) -> list[str]:
    run = cli(*arguments)
    assert (run.status, run.err) == (0, ""), run
    return run.out.splitlines()


CREATED = [
    "Created project shop",
    "Created entity driver",
    "Created data source src",
    "Created data source push",
    "Created data source data/g.parquet",
    "Created feature view stats",
    "Created feature view inferred",
    "Created feature view glob",
    "Created feature view pushed",
    "Created feature service svc",
]
DRY = "Nothing was changed: this was a dry run"

# --- apply, plan, teardown -------------------------------------------------------------------------------------------


def test_apply(shop: Cli) -> None:
    assert said(shop, "apply", "--no-progress") == CREATED
    assert said(shop, "apply") == ["No changes to registry"]
    change(shop.repo, "days=1", "days=2")
    change(shop.repo, 'name="trips", dtype=Int32)', 'name="trips", dtype=Int64)')
    assert said(shop, "apply") == [
        "Updated feature view stats (version v1)",
        "    features.trips.value_type: INT32 -> INT64",
        "    ttl: 1 day -> 2 days",
    ]


@pytest.mark.parametrize("verb", [["plan"], ["apply", "--dry-run"], ["plan", "--skip-source-validation"]])
def test_a_dry_run(shop: Cli, verb: list[str]) -> None:
    assert said(shop, *verb) == [*CREATED, DRY]
    assert not (shop.repo / "data/registry.db").exists()
    said(shop, "apply")
    assert said(shop, *verb) == ["No changes to registry"]


def test_a_version_that_is_not_promoted(shop: Cli) -> None:
    said(shop, "apply")
    change(shop.repo, 'name="trips", dtype=Int32)', 'name="trips", dtype=Int64)')
    assert said(shop, "apply", "--no-promote")[-1] == "    version v1 is recorded, but not active"


def test_fields_that_come_and_go(capsys: pytest.CaptureFixture[str]) -> None:
    fields = (FieldChange("tags.a", None, "1"), FieldChange("tags.b", "2", None))
    show_changes([Change("entity", "e", "updated", fields)])
    assert capsys.readouterr().out.splitlines() == ["Updated entity e", "    tags.a: added 1", "    tags.b: removed 2"]


def test_teardown(shop: Cli) -> None:
    said(shop, "apply")
    assert said(shop, "teardown") == ["Deleted project shop"]
    assert not (shop.repo / "data/registry.db").exists()
    assert said(shop, "apply") == CREATED


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("driver = ", "driver = nothing\nx = ", ["features.py, line 5: NameError"]),
        ('"data/d.parquet"', '"data/no.parquet"', ["no.parquet", "no such file"]),
        ("[driver]", "[driver, driver]", ["FeatureView stats", "(features.py, line "]),
        ('name="pushed"', 'name="STATS"', ["FeatureView STATS", "the view stats has the same name"]),
    ],
)
def test_what_is_wrong_is_one_line_and_status_1(shop: Cli, old: str, new: str, words: list[str]) -> None:
    change(shop.repo, old, new)
    line = shop("apply").error(1)
    assert all(word in line for word in words), line
    assert not (shop.repo / "data/registry.db").exists()


def test_before_the_first_apply(shop: Cli) -> None:
    for arguments in (["get", "stats:rate", "-e", "driver_id=1"], ["entities", "list"], ["registry-dump"]):
        assert "does not exist; run `fastserve apply`" in shop(*arguments).error(1)


# --- init ------------------------------------------------------------------------------------------------------------


def test_a_new_repository_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli = Cli(tmp_path, capsys, monkeypatch)
    assert said(cli, "init", "my_shop")[0] == f"Created a feature repository in {tmp_path}/my_shop/feature_repo"
    assert "exists" in cli("init", "my_shop").error(1)
    repo = Cli(tmp_path / "my_shop/feature_repo", capsys, monkeypatch)
    assert len(said(repo, "apply")) == 8
    assert repo("materialize", "2020-01-01", "2100-01-01").status == 0
    found = repo("get", "checkout", "-e", "customer_id=1001", "-e", "customer_id=1002").json()
    assert found["city"] != [None, None]
    assert all(amount > 0 for amount in found["last_amount"])
    assert said(repo, "apply") == ["No changes to registry"]


def test_other_ways_to_init(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli = Cli(tmp_path, capsys, monkeypatch)
    said(cli, "init", "-m", "small")
    small = tmp_path / "small/feature_repo"
    assert [path.name for path in small.iterdir() if path.is_file()] == ["feature_store.yaml"]
    assert said(Cli(small, capsys, monkeypatch), "apply") == ["Created project small"]
    said(cli, "init", "shop", "-t", "local", "--repo-path", "elsewhere")
    text = (tmp_path / "elsewhere/feature_repo/feature_store.yaml").read_text()
    assert yaml.safe_load(text)["project"] == "shop"
    assert "is not a project name" in cli("init", "bad name").error(2)
    assert "'gcp' is not 'local'" in cli("init", "-t", "gcp").error(2)


# --- looking ---------------------------------------------------------------------------------------------------------


def table(lines: list[str]) -> list[list[str]]:
    """Return the cells; two blanks or more separate them."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def test_lists_are_as_feasts(bank: Cli) -> None:
    assert table(said(bank, "entities", "list")) == [
        ["NAME", "DESCRIPTION", "TYPE"],
        ["customer", "A customer", "ValueType.STRING"],
        ["account", "ValueType.INT64"],
        ["merchant", "ValueType.STRING"],
    ]
    views = table(said(bank, "feature-views", "list"))
    assert views[0] == ["NAME", "ENTITIES", "TYPE", "ENABLED", "STATE"]
    assert ["customer_profile", "{'customer'}", "FeatureView", "Yes", "AVAILABLE_ONLINE"] in views
    assert ["fx_rates", "n/a", "FeatureView", "Yes", "AVAILABLE_ONLINE"] in views
    assert ["risk_py", "{'customer'}", "OnDemandFeatureView", "Yes", "STATE_UNSPECIFIED"] in views
    assert said(bank, "on-demand-feature-views", "list")[:2] == ["NAME", "risk_py"]
    assert said(bank, "stream-feature-views", "list") == ["NAME"]
    assert table(said(bank, "label-views", "list")) == [["NAME", "ENTITIES", "CONFLICT_POLICY"]]
    services = table(said(bank, "feature-services", "list"))
    assert ["transfer_svc", "payer:age, payee:age"] in services
    sources = table(said(bank, "data-sources", "list"))
    assert ["txn_push", "<class 'feast.data_source.PushSource'>"] in sources
    assert table(said(bank, "projects", "list"))[1] == [
        "bank",
        "Small banking-like project",
        "{'domain': 'payments'}",
        "team@bank.example",
    ]
    features = table(said(bank, "features", "list"))
    assert features[0] == ["Feature", "Feature View", "Data Type"]
    assert ["st_struct", "all_types", "Struct({street: String, no: Int64})"] in features


def test_tags_choose(bank: Cli) -> None:
    assert [row[0] for row in table(said(bank, "feature-views", "list", "--tags", "team:crm"))] == [
        "NAME",
        "customer_profile",
    ]
    assert len(said(bank, "feature-views", "list", "--tags", "team:crm, x:y")) == 1
    assert "KEY:VALUE expected" in bank("entities", "list", "--tags", "x").error(2)


def test_descriptions(bank: Cli) -> None:
    found = yaml.safe_load(bank("entities", "describe", "customer").out)
    assert found["spec"] == {
        "name": "customer",
        "valueType": "STRING",
        "description": "A customer",
        "joinKey": "customer_id",
        "tags": {"pii": "yes"},
        "owner": "a@bank.example",
    }
    found = yaml.safe_load(bank("feature-views", "describe", "customer_profile").out)
    assert (found["enabled"], found["state"]) == (True, "AVAILABLE_ONLINE")
    assert list(found["spec"])[:2] == ["name", "entities"]
    found = yaml.safe_load(bank("on-demand-feature-views", "describe", "risk_py").out)
    function = found["spec"]["featureTransformation"]["userDefinedFunction"]
    assert "def risk_py" in function["bodyText"] and "body" not in function
    assert yaml.safe_load(bank("data-sources", "describe", "txn_src").out)["fileOptions"] == {"uri": "data/txn.parquet"}
    assert yaml.safe_load(bank("projects", "current_project").out)["spec"]["name"] == "bank"
    (feature, *_) = json.loads(bank("features", "describe", "income").out)
    assert (feature["Feature View"], feature["Data Type"]) == ("customer_profile", "Float64")
    assert "Data source nope does not exist in project bank" in bank("data-sources", "describe", "nope").error(1)
    assert "Feature nope does not exist" in bank("features", "describe", "nope").error(1)


def test_a_dump(bank: Cli) -> None:
    found = json.loads(bank("registry-dump").out)
    assert found["project"] == "bank"
    assert [entity["spec"]["name"] for entity in found["entities"]] == ["__dummy", "account", "customer", "merchant"]
    assert {"dataSources", "featureServices", "featureViews", "onDemandFeatureViews"} < set(found)


def test_configuration(shop: Cli) -> None:
    found = yaml.safe_load(shop("configuration").out)
    assert found == {
        "provider": "local",
        "auth": {"type": "no_auth"},
        "entity_key_serialization_version": 3,
        "project": "shop",
        "registry": "data/registry.db",
        "online_store": {"type": "sqlite", "path": "data/online.db"},
    }


# --- changing --------------------------------------------------------------------------------------------------------


def test_the_life_of_a_view(shop: Cli) -> None:
    said(shop, "apply")
    assert said(shop, "feature-views", "disable", "stats") == ["Feature view 'stats' has been disabled."]
    assert said(shop, "feature-views", "disable", "stats") == ["Feature view 'stats' is already disabled."]
    assert said(shop, "apply") == ["No changes to registry"]
    assert ["stats", "{'driver'}", "FeatureView", "No", "STATE_UNSPECIFIED"] in table(
        said(shop, "feature-views", "list")
    )
    assert said(shop, "feature-views", "enable", "stats") == ["Feature view 'stats' has been enabled."]
    assert said(shop, "feature-views", "set-state", "stats", "created") == [
        "Feature view 'stats' state set to CREATED."
    ]
    assert "allowed: GENERATED" in shop("feature-views", "set-state", "stats", "created").error(1)
    assert "does not exist" in shop("feature-views", "enable", "nope").error(1)
    (head, row) = table(said(shop, "feature-views", "list-versions", "stats"))
    assert head == ["VERSION", "TYPE", "CREATED", "VERSION_ID"]
    assert row[:2] == ["v0", "feature_view"]
    assert said(shop, "feature-views", "list-versions", "x") == ["No version history found for feature view 'x'."]


def test_deleting(shop: Cli) -> None:
    said(shop, "apply")
    assert said(shop, "delete", "svc") == ["Deleted feature service svc from shop."]
    assert said(shop, "delete", "svc") == ["Object not found. Deletion skipped."]
    assert said(shop, "delete", "stats") == ["Deleted feature view stats from shop."]
    assert "stats" not in [view.spec.name for view in registry_of(shop.repo).feature_views]
    assert said(shop, "projects", "delete", "-y", "shop") == ["Deleted project shop"]


def test_the_tables_of_a_sql_registry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shop: Cli
) -> None:
    assert "of type file" in shop("registry", "create-schema").error(1)
    shutil.rmtree(shop.repo)
    registry = "{registry_type: sql, path: 'sqlite:///data/registry.sqlite', schema_mode: verify}"
    sql = Cli(write_repo(tmp_path / "shop", registry=registry), capsys, monkeypatch)
    assert sql("apply").status == 1
    assert said(sql, "registry", "create-schema") == ["The tables of the registry are there"]
    assert said(sql, "apply") == CREATED


def test_there_is_no_endpoint(shop: Cli) -> None:
    assert said(shop, "endpoint") == ["There is no deployed feature server; `fastserve serve` starts one."]
