"""Scanning a repository: which files, in which order, and what is said of those that cannot be imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fastserve.definition import Entity, FeatureService, FeatureView, Field, FileSource, PushSource
from fastserve.errors import DefinitionError, RepositoryError
from fastserve.repo import collect, load_repo, repo_files
from fastserve.types import Int64
from tests.repos import write_repo

ENTITY = "from fastserve import Entity\n{0} = Entity(name='{0}')\n"


def names(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in repo_files(root)]


def write(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


# --- which files -----------------------------------------------------------------------------------------------------


def test_all_python_files_are_taken_but_packages_own(tmp_path: Path) -> None:
    for path in ("b.py", "a.py", "__init__.py", "sub/c.py", "sub/__init__.py", "sub/deep/d.py", "notes.txt"):
        write(tmp_path, path)
    for path in (".git", ".venv", "__pycache__", ".ipynb_checkpoints", ".pytest_cache", "sub/.venv"):
        write(tmp_path, f"{path}/x.py")
    assert names(tmp_path) == ["a.py", "b.py", "sub/c.py", "sub/deep/d.py"]


def test_ignored_files(tmp_path: Path) -> None:
    for path in ("a.py", "test_a.py", "sub/test_b.py", "sub/b.py", "old/c.py", "old/deep/d.py", "e.py"):
        write(tmp_path, path)
    write(tmp_path, ".feastignore", "# not these\n**/test_*.py\nold   # nor that\n\ne.*\n")
    assert names(tmp_path) == ["a.py", "sub/b.py"]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python then takes ** anywhere")
def test_a_bad_pattern_is_named(tmp_path: Path) -> None:
    write(tmp_path, ".feastignore", "a**b/\n")
    with pytest.raises(RepositoryError, match=r"\.feastignore: 'a\*\*b/' is no pattern"):
        repo_files(tmp_path)


# --- what they define ------------------------------------------------------------------------------------------------


def test_definitions_are_found_once_and_sources_inside_views_too(tmp_path: Path) -> None:
    found = load_repo(write_repo(tmp_path / "repo"))
    assert [view.name for view in found.feature_views] == ["stats", "inferred", "glob", "pushed"]
    assert [source.name for source in found.data_sources] == ["src", "push", "data/g.parquet"]
    assert [entity.name for entity in found.entities] == ["driver"]
    assert [service.name for service in found.feature_services] == ["svc"]
    assert len(found.objects()) == 9


def test_modules_import_one_another_and_run_in_the_repository(tmp_path: Path) -> None:
    write(tmp_path, "shared/keys.py", ENTITY.format("driver"))
    write(tmp_path, "a.py", "import os\nfrom shared.keys import driver\nassert os.path.exists('shared/keys.py')\n")
    before = os.getcwd(), list(sys.path)
    assert [entity.name for entity in load_repo(tmp_path).entities] == ["driver"]
    assert (os.getcwd(), list(sys.path)) == before
    assert "shared.keys" not in sys.modules


def test_a_change_within_a_second_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for name in ("a", "b"):  # texts of the same length, written at the same second
        write(tmp_path, "features.py", ENTITY.format(name))
        os.utime(tmp_path / "features.py", (1, 1))
        assert [entity.name for entity in load_repo(tmp_path).entities] == [name]
    assert not sys.dont_write_bytecode


def test_two_repositories_with_equal_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path, f"{name}/features.py", ENTITY.format(name))
    assert [load_repo(tmp_path / name).entities[0].name for name in ("one", "two", "one")] == ["one", "two", "one"]


def test_a_file_may_have_the_name_of_another_module(tmp_path: Path) -> None:
    write(tmp_path, "types.py", ENTITY.format("first"))
    write(tmp_path, "my-file.py", ENTITY.format("second"))
    assert {entity.name for entity in load_repo(tmp_path).entities} == {"first", "second"}
    assert sys.modules["types"].__file__ != str(tmp_path / "types.py")


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (", r"^bad\.py, line 1: SyntaxError"),
        ("\n\nx = nothing", r"^bad\.py, line 3: NameError: name 'nothing' is not defined$"),
        ("import nowhere_at_all", r"^bad\.py, line 1: ModuleNotFoundError: No module named 'nowhere_at_all'$"),
        ("import feast_not", r"^bad\.py, line 1: ModuleNotFoundError"),
        ("import helper\nhelper.fail()", r"^helper\.py, line 2: ZeroDivisionError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, "helper.py", "def fail():\n    1 / 0\n")
    write(tmp_path, "bad.py", text)
    with pytest.raises(RepositoryError, match=said):
        load_repo(tmp_path)


def test_a_wrong_definition_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "bad.py", "from fastserve import Entity\nEntity(name='x', join_keys=['a', 'b'])\n")
    with pytest.raises(DefinitionError, match=r"^Entity x: .*one join key.* \(bad\.py, line 2\)$") as caught:
        load_repo(tmp_path)
    assert (caught.value.kind, caught.value.name) == ("Entity", "x")


def test_feasts_own_definitions_are_pointed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "elsewhere/feast/__init__.py", "class Entity: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    write(tmp_path, "repo/bad.py", "import feast\ncustomer = feast.Entity()\n")
    try:
        with pytest.raises(
            RepositoryError, match=r"^bad\.py: customer is defined with feast; import Entity from fastserve"
        ):
            load_repo(tmp_path / "repo")
    finally:
        sys.modules.pop("feast", None)


def test_a_missing_feast_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "feast", None)
    write(tmp_path, "bad.py", "from feast import Entity\n")
    with pytest.raises(RepositoryError, match=r"^bad\.py, line 1: .*import from fastserve instead of feast$"):
        load_repo(tmp_path)


def test_two_projects(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "from fastserve import Project\np, q = Project(name='p'), Project(name='q')\n")
    with pytest.raises(DefinitionError, match="a repository has one project"):
        load_repo(tmp_path)


# --- objects given one by one ----------------------------------------------------------------------------------------


def test_collect() -> None:
    driver = Entity(name="driver")
    source = FileSource(name="src", path="x.parquet", timestamp_field="t")
    push = PushSource(name="push", batch_source=source)
    view = FeatureView(name="v", entities=[driver], source=push, schema=[Field(name="f", dtype=Int64)])
    found = collect([view, driver, view, FeatureService(name="s", features=[view])])
    assert [item.name for item in found.objects()] == ["src", "push", "driver", "v", "s"]
    assert found.feature_views == [view]
    with pytest.raises(DefinitionError, match=r"^str: 'driver' is no definition of fastserve$"):
        collect(["driver"])
