"""Applying definitions: what the registry and the online store are like afterwards.

Time stamps, versions and inferred columns are expected as Feast 0.67 was seen to make them of the same definitions.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet

from fastserve import FeatureStore
from fastserve._core import WritePlan
from fastserve.apply import Options, apply, plan_changes
from fastserve.changes import Change
from fastserve.config import load_config
from fastserve.definition import Entity, FeatureService, FeatureView, Field, FileSource
from fastserve.errors import (
    DefinitionError,
    FeatureViewPinConflict,
    RegistryNotFoundError,
    RequestError,
    SourceError,
    StoreError,
)
from fastserve.registry import open_registry
from fastserve.registry import schema_pb2 as pb
from fastserve.repo import RepoContents, load_repo
from fastserve.types import Float64, Int64, String
from tests import goldens
from tests.repos import change, registry_of, write_repo


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return write_repo(tmp_path / "shop")


@pytest.fixture(params=["file", "sql"])
def any_repo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A repository with a registry of each type."""
    sql = "{registry_type: sql, path: 'sqlite:///data/registry.sqlite'}"
    return write_repo(tmp_path / "shop", registry=sql if request.param == "sql" else "data/registry.db")


def run(repo: Path, **options: Any) -> list[Change]:
    """Apply the repository; return what was changed."""
    with FeatureStore(repo) as store:
        return [change for change in store.apply_repo(**options) if change.action != "unchanged"]


def lines(changes: Iterable[Change]) -> list[str]:
    return [str(change) for change in changes]


def view(repo: Path, name: str) -> pb.FeatureView:
    return next(view for view in registry_of(repo).feature_views if view.spec.name == name)


def numbers(repo: Path, name: str) -> list[int]:
    records = registry_of(repo).feature_view_version_history.records
    return [record.version_number for record in records if record.feature_view_name == name]


def tables(repo: Path) -> list[str]:
    with sqlite3.connect(repo / "data/online.db") as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return [name for (name,) in found]


def age(timestamp: Any) -> tuple[int, int]:
    return timestamp.seconds, timestamp.nanos


# --- the first apply -------------------------------------------------------------------------------------------------


def test_everything_is_created(any_repo: Path) -> None:
    assert lines(run(any_repo)) == [
        "created project shop",
        "created entity driver",
        "created data source src",
        "created data source push",
        "created data source data/g.parquet",
        "created feature view stats",
        "created feature view inferred",
        "created feature view glob",
        "created feature view pushed",
        "created feature service svc",
    ]
    registry = registry_of(any_repo)
    assert {entity.spec.name for entity in registry.entities} == {"__dummy", "driver"}
    assert [project.spec.name for project in registry.projects] == ["shop"]
    assert tables(any_repo) == ["shop_glob", "shop_inferred", "shop_pushed", "shop_stats"]


def test_what_is_left_out_is_inferred(repo: Path) -> None:
    run(repo)
    columns = {
        found.spec.name: (
            [(column.name, column.value_type) for column in found.spec.entity_columns],
            [(column.name, column.value_type) for column in found.spec.features],
        )
        for found in registry_of(repo).feature_views
    }
    value_type, key = pb.ValueType, [("driver_id", pb.ValueType.INT64)]
    assert columns["stats"] == (key, [("rate", value_type.DOUBLE), ("trips", value_type.INT32)])
    assert columns["inferred"] == (
        key,
        [
            ("rate", value_type.DOUBLE),
            ("trips", value_type.INT32),
            ("name", value_type.STRING),
            ("flag", value_type.BOOL),
            ("vals", value_type.INT64_LIST),
        ],
    )
    assert columns["glob"] == ([("__dummy_id", value_type.STRING)], [("x", value_type.DOUBLE)])
    sources = {source.name: source.timestamp_field for source in registry_of(repo).data_sources}
    assert sources == {"src": "event_timestamp", "push": "event_timestamp", "data/g.parquet": "ts"}
    (service,) = registry_of(repo).feature_services
    assert [[c.name for c in p.feature_columns] for p in service.spec.features] == [["rate"], ["x"]]
    assert service.spec.features[1].batch_source.timestamp_field == "ts"


def test_a_first_apply_starts_versions_and_clocks(repo: Path) -> None:
    run(repo)
    registry = registry_of(repo)
    assert {r.feature_view_name: r.version_number for r in registry.feature_view_version_history.records} == {
        "stats": 0,
        "inferred": 0,
        "glob": 0,
        "pushed": 0,
    }
    (record,) = [r for r in registry.feature_view_version_history.records if r.feature_view_name == "stats"]
    assert record.feature_view_type == "feature_view"
    assert len(record.version_id) == 36
    assert pb.FeatureView.FromString(record.feature_view_proto) == view(repo, "stats")
    for item in (*registry.feature_views, *registry.entities, *registry.data_sources, *registry.feature_services):
        assert item.meta.created_timestamp.seconds > 0
        assert age(item.meta.created_timestamp) == age(item.meta.last_updated_timestamp)
    # A source inside a view is as old as the source itself.
    (source,) = [source for source in registry.data_sources if source.name == "src"]
    assert view(repo, "stats").spec.batch_source.meta == source.meta


def test_definitions_are_as_feast_writes_them(tmp_path: Path) -> None:
    """The bank over the registry that Feast made of it: nothing changes."""
    folder = goldens.copy_bank(tmp_path / "bank", {"type": "sqlite", "path": "data/online.db"})
    (folder / "features.py").write_text(
        (goldens.BANK / "features.py").read_text().replace("from feast", "from fastserve")
    )
    config = load_config(folder)
    changes = plan_changes(open_registry(config), config, load_repo(folder))
    assert {change.kind for change in changes} >= {"entity", "data source", "feature view", "feature service"}
    assert {str(change): change.fields for change in changes if change.action != "unchanged"} == {}


# --- applying again --------------------------------------------------------------------------------------------------


def test_nothing_new_changes_nothing(any_repo: Path) -> None:
    run(any_repo)
    before = registry_of(any_repo)
    assert run(any_repo) == []
    assert registry_of(any_repo) == before


def test_tables_are_not_kept_in_the_registry(any_repo: Path) -> None:
    run(any_repo)
    assert [found.field_number for found in UnknownFieldSet(registry_of(any_repo))] == []  # `infra` is 10
    assert tables(any_repo)


def test_a_change_without_a_new_version(any_repo: Path) -> None:
    run(any_repo)
    before = {found.spec.name: found for found in registry_of(any_repo).feature_views}
    change(any_repo, "days=1", "days=2")
    change(any_repo, '{"team": "x"}', '{"team": "y", "level": "gold"}')
    (found,) = run(any_repo)
    assert (str(found), found.version) == ("updated feature view stats", None)
    assert [str(field) for field in found.fields] == [
        "tags.level: (none) -> gold",
        "tags.team: x -> y",
        "ttl: 1 day -> 2 days",
    ]
    assert numbers(any_repo, "stats") == [0]
    after = {found.spec.name: found for found in registry_of(any_repo).feature_views}
    assert {name for name in after if after[name] != before[name]} == {"stats"}
    old, new = before["stats"].meta, after["stats"].meta
    assert age(new.created_timestamp) == age(old.created_timestamp)
    assert age(new.last_updated_timestamp) > age(old.last_updated_timestamp)


def load(message: pb.Registry) -> None:
    for found in message.feature_views:
        found.meta.materialization_intervals.add().end_time.seconds = 5
        found.meta.state = pb.AVAILABLE_ONLINE
        found.spec.disabled = True


def test_what_the_registry_keeps_about_a_view_stays(repo: Path) -> None:
    run(repo)
    open_registry(load_config(repo)).update(load)
    assert run(repo) == []
    change(repo, "days=1", "days=2")
    assert lines(run(repo)) == ["updated feature view stats"]
    found = view(repo, "stats")
    assert (found.meta.state, found.spec.disabled) == (pb.AVAILABLE_ONLINE, True)
    assert found.meta.materialization_intervals[0].end_time.seconds == 5


def test_a_new_version_has_the_state_of_its_view(repo: Path) -> None:
    run(repo)
    open_registry(load_config(repo)).update(load)
    change(repo, 'name="trips", dtype=Int32)', 'name="trips", dtype=Int64)')
    run(repo)
    history = registry_of(repo).feature_view_version_history.records
    (record,) = [found for found in history if (found.feature_view_name, found.version_number) == ("stats", 1)]
    assert pb.FeatureView.FromString(record.feature_view_proto).meta.state == pb.AVAILABLE_ONLINE


def test_a_changed_source_changes_its_views(repo: Path) -> None:
    run(repo)
    change(repo, 'FileSource(path="data/g.parquet")', 'FileSource(path="data/g.parquet", description="all")')
    found = run(repo)
    assert lines(found) == [
        "updated data source data/g.parquet",
        "updated feature view glob",
        "updated feature service svc",
    ]
    assert [str(field) for field in found[1].fields] == ["batch_source.description: (none) -> all"]
    (source,) = [source for source in registry_of(repo).data_sources if source.name == "data/g.parquet"]
    assert view(repo, "glob").spec.batch_source.meta == source.meta
    assert numbers(repo, "glob") == [0]


def test_what_is_no_longer_defined_is_deleted(any_repo: Path) -> None:
    run(any_repo)
    change(any_repo, 'inferred = FeatureView(name="inferred", entities=[driver], source=src)\n', "")
    change(any_repo, 'svc = FeatureService(name="svc", features=[stats[["rate"]], glob])\n', "")
    assert lines(run(any_repo)) == ["deleted feature view inferred", "deleted feature service svc"]
    assert numbers(any_repo, "inferred") == []
    assert tables(any_repo) == ["shop_glob", "shop_pushed", "shop_stats"]
    (any_repo / "features.py").write_text("")
    assert len(run(any_repo)) == 7
    assert [entity.spec.name for entity in registry_of(any_repo).entities] == ["__dummy"]


def test_on_demand_views_that_are_no_longer_defined_are_deleted(tmp_path: Path) -> None:
    folder = goldens.copy_bank(tmp_path / "bank", {"type": "sqlite", "path": "data/online.db"})
    (folder / "features.py").write_text("")
    deleted = {str(change) for change in run(folder)}
    assert {"deleted on demand feature view risk_py", "deleted on demand feature view stored_odfv"} <= deleted
    assert not registry_of(folder).on_demand_feature_views


def test_a_new_project_has_an_id(repo: Path) -> None:
    run(repo)
    (found,) = registry_of(repo).project_metadata
    assert (found.project, len(found.project_uuid)) == ("shop", 36)


# --- versions --------------------------------------------------------------------------------------------------------

ONE_MORE = ('Field(name="trips", dtype=Int32)]', 'Field(name="trips", dtype=Int32), Field(name="flag", dtype=Bool)]')


def test_a_change_of_features_makes_a_version(any_repo: Path) -> None:
    run(any_repo)
    change(any_repo, *ONE_MORE)
    (found,) = run(any_repo)
    assert [str(field) for field in found.fields] == ["features.flag: (none) -> BOOL"]
    assert (found.version, numbers(any_repo, "stats")) == (1, [0, 1])
    assert view(any_repo, "stats").meta.current_version_number == 1
    change(any_repo, *reversed(ONE_MORE))
    assert [found.version for found in run(any_repo)] == [2]  # as Feast: going back is a change, too


def forget(message: pb.Registry) -> None:
    for found in message.feature_views:
        found.meta.current_version_number = 0


def test_an_active_version_that_feast_forgot_is_active_again(any_repo: Path) -> None:
    run(any_repo)
    change(any_repo, *ONE_MORE)
    run(any_repo)
    open_registry(load_config(any_repo)).update(forget)
    (found,) = run(any_repo)
    assert (str(found), [str(field) for field in found.fields]) == (
        "updated feature view stats",
        ["active version: v0 -> v1"],
    )
    assert (view(any_repo, "stats").meta.current_version_number, numbers(any_repo, "stats")) == (1, [0, 1])
    assert run(any_repo) == []


def test_version_0_is_not_taken_for_a_later_one_that_is_equal(any_repo: Path) -> None:
    run(any_repo)
    for text in (ONE_MORE, ONE_MORE[::-1]):
        change(any_repo, *text)
        run(any_repo)
    open_registry(load_config(any_repo)).update(forget)
    assert run(any_repo) == []


def test_a_service_has_the_features_of_the_version_it_names(any_repo: Path) -> None:
    run(any_repo)
    change(any_repo, *ONE_MORE)
    with (any_repo / "features.py").open("a") as file:
        file.write('pinned = FeatureService(name="pinned", features=["stats@v0"])\n')
    run(any_repo)
    (found,) = (item.spec for item in registry_of(any_repo).feature_services if item.spec.name == "pinned")
    assert [column.name for column in found.features[0].feature_columns] == ["rate", "trips"]
    assert found.features[0].batch_source.name == "src"
    assert run(any_repo) == []
    change(any_repo, "stats@v0", "stats@v7")
    with pytest.raises(DefinitionError, match=r"FeatureService pinned: it names stats@v7: "):
        run(any_repo)


def test_the_order_of_features_makes_no_version(any_repo: Path) -> None:
    run(any_repo)
    rate, trips = 'Field(name="rate", dtype=Float64)', 'Field(name="trips", dtype=Int32)'
    change(any_repo, f"[{rate}, {trips}]", f"[{trips}, {rate}]")
    (found,) = run(any_repo)
    assert (str(found), numbers(any_repo, "stats")) == ("updated feature view stats", [0])


STREAM = """\
from datetime import timedelta
from fastserve import Entity, Field, FileSource, LabelView, PushSource, StreamFeatureView
from fastserve.types import Bool, Int64, String

driver = Entity(name="driver", join_keys=["driver_id"])
src = FileSource(name="src", path="data/d.parquet", timestamp_field="event_timestamp")
key = Field(name="driver_id", dtype=Int64)
stream = StreamFeatureView(
    name="stream", entities=[driver], ttl=timedelta(0), source=PushSource(name="push", batch_source=src),
    timestamp_field="event_timestamp", schema=[key, Field(name="a", dtype=Int64), Field(name="b", dtype=String)],
)
labels = LabelView(
    name="labels", entities=[driver], source=PushSource(name="told", batch_source=src),
    schema=[key, Field(name="fraud", dtype=Bool)],
)
"""


def test_stream_views_in_the_order_in_which_feast_happens_to_write_them(tmp_path: Path) -> None:
    folder = write_repo(tmp_path / "shop", STREAM)
    run(folder)

    def shuffle(message: pb.Registry) -> None:
        features = list(message.stream_feature_views[0].spec.features)
        del message.stream_feature_views[0].spec.features[:]
        message.stream_feature_views[0].spec.features.extend(reversed(features))

    open_registry(load_config(folder)).update(shuffle)
    assert (run(folder), numbers(folder, "stream")) == ([], [0])


def test_label_views_have_a_history(tmp_path: Path) -> None:
    folder = write_repo(tmp_path / "shop", STREAM)
    run(folder)
    assert (run(folder), numbers(folder, "labels")) == ([], [0])
    change(folder, 'Field(name="fraud", dtype=Bool)', 'Field(name="fraud", dtype=Int64)')
    (found,) = run(folder)
    assert (found.version, numbers(folder, "labels")) == (1, [0, 1])
    assert {record.feature_view_type for record in registry_of(folder).feature_view_version_history.records} == {
        "stream_feature_view",
        "label_view",
    }


def test_a_version_that_is_not_promoted(any_repo: Path) -> None:
    run(any_repo)
    before = view(any_repo, "stats")
    change(any_repo, *ONE_MORE)
    (found,) = run(any_repo, no_promote=True)
    assert (found.version, found.note) == (1, "version v1 is recorded, but not active")
    assert (view(any_repo, "stats"), numbers(any_repo, "stats")) == (before, [0, 1])


def test_going_back_to_a_version(any_repo: Path) -> None:
    run(any_repo)
    change(any_repo, *ONE_MORE)
    run(any_repo)
    change(any_repo, 'tags={"team": "x"}', 'version="v0", tags={"team": "x"}')
    assert lines(run(any_repo))[0] == "updated feature view stats"
    found = view(any_repo, "stats")
    assert [feature.name for feature in found.spec.features] == ["rate", "trips"]
    assert (found.spec.version, found.meta.current_version_number) == ("v0", 0)
    assert numbers(any_repo, "stats") == [0, 1]
    # The definition still says something else than version 0, which Feast refuses as well.
    with pytest.raises(FeatureViewPinConflict, match=r"^FeatureView stats: it is pinned to v0"):
        run(any_repo)
    change(any_repo, *reversed(ONE_MORE))
    assert run(any_repo) == []


def test_a_version_that_is_not_there_is_made(any_repo: Path) -> None:
    run(any_repo)
    change(any_repo, 'tags={"team": "x"}', 'version="v7", tags={"team": "x"}')
    assert run(any_repo)[0].version == 7
    assert view(any_repo, "stats").meta.current_version_number == 7
    assert numbers(any_repo, "stats") == [0, 7]
    change(any_repo, "days=1", "days=2")
    run(any_repo)
    assert numbers(any_repo, "stats") == [0, 7]


def test_versions_have_tables_of_their_own(tmp_path: Path) -> None:
    registry = "{path: data/registry.db, enable_online_feature_view_versioning: true}"
    repo = write_repo(tmp_path / "shop", registry=registry)
    run(repo)
    change(repo, *ONE_MORE)
    run(repo)
    assert "shop_stats_v1" in tables(repo)
    (repo / "features.py").write_text("")
    run(repo)
    assert tables(repo) == []


# --- all or nothing --------------------------------------------------------------------------------------------------


class BrokenStore:
    """A store that can be made to fail."""

    def __init__(self, fails: str):
        self.fails = fails

    def _do(self, what: str) -> None:
        if what == self.fails:
            raise StoreError(f"{what} failed")

    def create(self, plans: Iterable[WritePlan]) -> None:
        self._do("create")

    def drop(self, plans: Iterable[WritePlan]) -> None:
        self._do("drop")


@pytest.mark.parametrize("fails", ["create", "drop"])
def test_a_store_that_fails_leaves_the_registry(repo: Path, fails: str) -> None:
    run(repo)
    before = registry_of(repo)
    config = load_config(repo)
    store: Any = BrokenStore(fails)
    with pytest.raises(StoreError, match=f"{fails} failed"):
        apply(open_registry(config), store, config, RepoContents(), Options(full=True))
    assert registry_of(repo) == before


def test_a_dry_run_writes_nothing(any_repo: Path) -> None:
    before = sorted(any_repo.rglob("*"))
    assert len(run(any_repo, dry_run=True)) == 10
    assert [path for path in sorted(any_repo.rglob("*")) if "__pycache__" not in str(path)] == before
    run(any_repo)
    registry = registry_of(any_repo)
    change(any_repo, "days=1", "days=2")
    assert lines(run(any_repo, dry_run=True)) == ["updated feature view stats"]
    assert registry_of(any_repo) == registry


def test_appliers_at_once_lose_nothing(any_repo: Path) -> None:
    run(any_repo)

    def add(number: int) -> None:
        with FeatureStore(any_repo) as store:
            store.apply(Entity(name=f"e{number}", value_type=store.get_entity("driver").value_type))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {entity.spec.name for entity in registry_of(any_repo).entities}
    assert found == {"__dummy", "driver", *(f"e{number}" for number in range(8))}


# --- objects given one by one ----------------------------------------------------------------------------------------


def test_apply_of_objects_deletes_nothing(repo: Path) -> None:
    with FeatureStore(repo) as store:
        store.apply_repo()
        driver = load_repo(repo).entities[0]
        other = FeatureView(
            name="other",
            entities=[driver],
            schema=[Field(name="f", dtype=Float64)],
            source=FileSource(path="data/d.parquet", timestamp_field="event_timestamp"),
        )
        changes = store.apply([other, FeatureService(name="s2", features=["other:f", "glob"])])
        assert lines(changes) == [
            "created data source data/d.parquet",
            "created feature view other",
            "created feature service s2",
        ]
        assert "stats" in [found.name for found in store.list_feature_views()]
        projections = store.get_feature_service("s2").feature_view_projections
        assert [[field.name for field in projection.features] for projection in projections] == [["f"], ["x"]]
        assert store.get_online_features(["other:f"], [{"driver_id": 1}]).to_dict() == {"driver_id": [1], "f": [None]}
        assert lines(store.apply([], objects_to_delete=[other], partial=False)) == ["deleted feature view other"]
        with pytest.raises(RequestError, match="partial=False"):
            store.apply([], objects_to_delete=[other])


def test_a_store_without_registry_can_apply(repo: Path) -> None:
    with FeatureStore(repo) as store:
        with pytest.raises(RegistryNotFoundError):
            store.get_online_features(["stats:rate"], [{"driver_id": 1}])
        store.apply_repo()
        assert store.get_online_features(["stats:rate"], [{"driver_id": 1}]).to_dict() == {
            "driver_id": [1],
            "rate": [None],
        }


def test_definitions_given_are_not_changed(repo: Path) -> None:
    contents = load_repo(repo)
    config = load_config(repo)
    plan_changes(open_registry(config), config, contents)
    inferred = next(view for view in contents.feature_views if view.name == "inferred")
    assert (inferred.features, inferred.entity_columns) == ([], [])


# --- what is wrong ---------------------------------------------------------------------------------------------------


def source(**arguments: Any) -> FileSource:
    return FileSource(name="s", **{"path": "data/d.parquet", "timestamp_field": "event_timestamp", **arguments})


DRIVER = Entity(name="driver", join_keys=["driver_id"])
FLAG = [Field(name="flag", dtype=String)]


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([FeatureView(name="v", source=source(path="data/no.parquet"))], r"FeatureView v: .*no\.parquet.*no such file"),
        ([FeatureView(name="v", source=source(path="data/g.parquet"), entities=[DRIVER], schema=FLAG), DRIVER],
         r"FeatureView v: .*join key driver_id, and its source has no such column; it has: x, ts"),
        ([FeatureView(name="v", source=source(timestamp_field=""))],
         r"FileSource s: .* not just one, but 2 of them: event_timestamp, created"),
        ([FeatureView(name="v", entities=[DRIVER], source=source(), schema=FLAG)], r"FeatureView v: the entity driver"),
        ([FeatureView(name="v", schema=FLAG), FeatureView(name="V", schema=FLAG)], r"FeatureView V: the view v has"),
        ([FeatureService(name="s", features=["nothing:x"])], r"FeatureService s: the view nothing does not exist"),
    ],
)  # fmt: skip
def test_wrong_definitions_change_nothing(repo: Path, objects: list[Any], said: str) -> None:
    with FeatureStore(repo) as store, pytest.raises(DefinitionError, match=said):
        store.apply(objects)
    assert not (repo / "data/registry.db").exists()


def test_a_source_that_is_not_there(repo: Path) -> None:
    (repo / "data/g.parquet").unlink()
    change(repo, 'path="data/g.parquet"', 'path="data/g.parquet", timestamp_field="ts"')
    change(repo, "source=FileSource", 'schema=[Field(name="x", dtype=Float64)], source=FileSource')
    with pytest.raises(SourceError, match=r"^source data/g\.parquet \(data/g\.parquet\): no such file or folder$"):
        run(repo)
    assert len(run(repo, skip_source_validation=True)) == 10


def test_a_source_without_its_time_column(repo: Path) -> None:
    change(repo, 'created_timestamp_column="created"', 'created_timestamp_column="nothing"')
    with pytest.raises(SourceError, match=r"source src \(data/d\.parquet\): no column nothing; it has: driver_id"):
        run(repo)


def test_another_project(repo: Path) -> None:
    change(repo, "driver = ", "from fastserve import Project\nproject = Project(name='other')\ndriver = ")
    with pytest.raises(DefinitionError, match=r"^Project other: feature_store\.yaml names the project shop$"):
        run(repo)


def test_validation_can_be_skipped(repo: Path) -> None:
    with FeatureStore(repo) as store:
        view = FeatureView(name="v", entities=[DRIVER], source=source(), schema=[Field(name="driver_id", dtype=Int64)])
        with pytest.raises(DefinitionError):
            store.apply(view)
        assert lines(store.apply(view, skip_feature_view_validation=True))[-1] == "created feature view v"


def test_a_view_that_becomes_another_kind(any_repo: Path) -> None:
    run(any_repo)
    change(any_repo, "import Entity,", "import StreamFeatureView, Entity,")
    change(any_repo, 'pushed = FeatureView(name="pushed"', 'pushed = StreamFeatureView(name="pushed"')
    changes = ["created stream feature view pushed", "deleted feature view pushed"]
    assert sorted(lines(run(any_repo))) == changes
    assert "shop_pushed" in tables(any_repo)
    assert [found.spec.name for found in registry_of(any_repo).stream_feature_views] == ["pushed"]
    assert run(any_repo) == []
