"""Which repository is found."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from fastserve.errors import ConfigError
from fastserve.server.settings import REPO_VARIABLE, YAML_VARIABLE, find_config

YAML = "project: {}\nregistry: data/registry.db\n"


@pytest.fixture(autouse=True)
def repos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders `here`, which is the current one, and `there`, and a file `other.yaml`."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "feature_store.yaml").write_text(YAML.format(name))
    (tmp_path / "other.yaml").write_text(YAML.format("other"))
    for variable in (REPO_VARIABLE, YAML_VARIABLE, "FEAST_FS_YAML_FILE_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_arguments_win(repos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REPO_VARIABLE, str(repos / "here"))
    monkeypatch.setenv(YAML_VARIABLE, encoded(YAML.format("encoded")))
    config = find_config(repos / "there", repos / "other.yaml")
    assert (config.project, config.repo_path) == ("other", repos / "there")


def test_the_encoded_text_wins_over_the_repository(repos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(YAML_VARIABLE, encoded(YAML.format("encoded")))
    config = find_config(repos / "there")
    assert (config.project, config.repo_path) == ("encoded", repos / "there")


def test_the_variable_names_the_repository(repos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REPO_VARIABLE, str(repos / "there"))
    assert find_config().project == "there"


def test_else_it_is_the_current_folder() -> None:
    assert find_config().project == "here"


@pytest.mark.parametrize("text", ["%%%", base64.b64encode(b"\xff").decode()])
def test_what_is_not_base64_of_text_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(YAML_VARIABLE, text)
    with pytest.raises(ConfigError, match=f"{YAML_VARIABLE}: not base64"):
        find_config()


def test_faults_in_the_encoded_text_name_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(YAML_VARIABLE, encoded("registry: x\n"))
    with pytest.raises(ConfigError, match=f"{YAML_VARIABLE}: project: required"):
        find_config()
