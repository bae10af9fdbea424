"""A feature repository: a folder with feature_store.yaml and Python files that define things.

The files are imported as Feast imports them: all `*.py` below the folder, in sorted order, as modules relative to it;
every definition that is a module's attribute is taken, once.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from fastserve import definition
from fastserve.errors import DefinitionError, RepositoryError

__all__ = ["RepoContents", "collect", "load_repo", "repo_files"]

IGNORE_FILE = ".feastignore"
NEVER_SCANNED = frozenset({".git", ".venv", "__pycache__", ".ipynb_checkpoints", ".pytest_cache"})


@dataclass
class RepoContents:
    """What a repository defines, each object once, in the order in which it was found.

    Args:
        projects: at most one.
        data_sources: also those that only occur inside views and other sources.
        feature_views: also batch feature views.
    """

    projects: list[definition.Project] = field(default_factory=list)
    data_sources: list[definition.DataSource] = field(default_factory=list)
    entities: list[definition.Entity] = field(default_factory=list)
    feature_views: list[definition.FeatureView] = field(default_factory=list)
    stream_feature_views: list[definition.StreamFeatureView] = field(default_factory=list)
    on_demand_feature_views: list[definition.OnDemandFeatureView] = field(default_factory=list)
    label_views: list[definition.LabelView] = field(default_factory=list)
    feature_services: list[definition.FeatureService] = field(default_factory=list)

    def add(self, item: object, nested: bool = True) -> bool:
        """Take a definition, unless it is there, and the sources inside it; return whether it is one."""
        for kind, name in _KINDS:
            if isinstance(item, kind):
                found: list[Any] = getattr(self, name)
                if not any(known is item for known in found):
                    found.append(item)
                    for source in _sources_of(item) if nested else ():
                        self.add(source)
                return True
        return False

    def objects(self) -> list[Any]:
        """Return all definitions."""
        return [item for _, name in _KINDS for item in getattr(self, name)]


# The first that fits counts: a stream feature view is a feature view too.
_KINDS: tuple[tuple[type[Any], str], ...] = (
    (definition.Project, "projects"),
    (definition.DataSource, "data_sources"),
    (definition.Entity, "entities"),
    (definition.StreamFeatureView, "stream_feature_views"),
    (definition.FeatureView, "feature_views"),
    (definition.OnDemandFeatureView, "on_demand_feature_views"),
    (definition.LabelView, "label_views"),
    (definition.FeatureService, "feature_services"),
)


def collect(objects: Iterable[object], nested: bool = True) -> RepoContents:
    """Return objects given one by one as the contents of a repository.

    Args:
        nested: take the sources inside views and other sources, too.

    Raises:
        DefinitionError: one of them is no definition.
    """
    contents = RepoContents()
    for item in objects:
        if not contents.add(item, nested):
            raise DefinitionError(type(item).__name__, "", f"{item!r} is no definition of fastserve")
    return contents


def _sources_of(item: Any) -> Iterator[definition.DataSource]:
    if isinstance(item, definition.OnDemandFeatureView):
        yield from (s for s in item.source_request_sources.values() if not s.name.startswith(definition.INPUT_SCHEMA))
    for name in ("batch_source", "stream_source"):
        source = getattr(item, name, None)
        if isinstance(source, definition.DataSource):
            yield source


# --- the files -------------------------------------------------------------------------------------------------------


def repo_files(repo_path: str | Path) -> list[Path]:
    """Return the Python files of a repository that `apply` looks at, sorted."""
    root = Path(repo_path).resolve()
    ignored = _ignored(root)
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in NEVER_SCANNED)
        found += [Path(folder, name) for name in names if name.endswith(".py") and name != "__init__.py"]
    return sorted(path for path in found if path not in ignored)


def _ignored(root: Path) -> set[Path]:
    """Return the files that .feastignore names: a pattern per line, of files or of folders, relative to the root."""
    try:
        lines = (root / IGNORE_FILE).read_text().splitlines()
    except FileNotFoundError:
        return set()
    ignored: set[Path] = set()
    for pattern in filter(None, (line.partition("#")[0].strip() for line in lines)):
        for path in _matching(root, pattern):
            ignored.update(path.rglob("*.py") if path.is_dir() else (path,))
    return ignored


def _matching(root: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from root.glob(pattern.lstrip("/"))
    except (ValueError, NotImplementedError) as exc:
        raise RepositoryError(f"{root / IGNORE_FILE}: {pattern!r} is no pattern: {exc}") from exc


# --- importing -------------------------------------------------------------------------------------------------------


def load_repo(repo_path: str | Path) -> RepoContents:
    """Import a repository's Python files and return what they define.

    The current folder is the repository's meanwhile, and its modules can import one another.

    Raises:
        RepositoryError: a file cannot be imported, or defines things with Feast; the text names file and line.
        DefinitionError: a file defines something that is wrong, or two projects.
    """
    root = Path(repo_path).resolve()
    contents = RepoContents()
    with _importing_from(root):
        for path in repo_files(root):
            for name, item in list(vars(_load(root, path)).items()):
                if not contents.add(item) and _is_of_feast(item):
                    raise RepositoryError(
                        f"{path.relative_to(root)}: {name} is defined with feast; import {type(item).__name__} from "
                        "fastserve instead"
                    )
    if len(contents.projects) > 1:
        names = ", ".join(project.name for project in contents.projects)
        raise DefinitionError("Project", names, "a repository has one project")
    return contents


def _is_of_feast(item: object) -> bool:
    kind = type(item)
    return kind.__module__.partition(".")[0] == "feast" and kind.__name__ in {known.__name__ for known, _ in _KINDS} | {
        "FileSource",
        "PushSource",
        "RequestSource",
        "BatchFeatureView",
        "KafkaSource",
    }


@contextlib.contextmanager
def _importing_from(root: Path) -> Iterator[None]:
    """Make a folder the current one and the first to import from; afterwards its modules are forgotten.

    So a second repository whose files have the same names gets its own. No bytecode is written: Python would take it
    for that of a file that is changed within the same second.
    """
    back, known, writes_no_bytecode = os.getcwd(), set(sys.modules), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    os.chdir(root)
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_no_bytecode
        with contextlib.suppress(ValueError):
            sys.path.remove(str(root))
        os.chdir(back)
        for name in set(sys.modules) - known:
            if _is_below(root, sys.modules[name]):
                del sys.modules[name]


def _is_below(root: Path, module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and root in Path(file).resolve().parents


def _load(root: Path, path: Path) -> ModuleType:
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    try:
        known = sys.modules.get(name)
        if known is None and all(part.isidentifier() for part in name.split(".")):
            known = importlib.import_module(name)
        # A file may bear the name of a module that is something else, such as `types`.
        return known if known is not None and _file(known) == path else _load_file(name, path)
    except DefinitionError as exc:
        raise DefinitionError(exc.kind, exc.name, f"{exc.rule} ({_place(root, path, exc)})") from exc
    except Exception as exc:
        raise RepositoryError(f"{_place(root, path, exc)}: {_said(exc)}") from exc


def _file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _load_file(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_fastserve_repo.{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _place(root: Path, path: Path, exc: BaseException) -> str:
    """Return the file and line of the repository at which an import failed."""
    if isinstance(exc, SyntaxError) and exc.filename:
        return f"{_relative(root, exc.filename)}, line {exc.lineno}"
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if root in Path(frame.filename).parents]
    return f"{_relative(root, frames[-1].filename)}, line {frames[-1].lineno}" if frames else _relative(root, str(path))


def _relative(root: Path, file: str) -> str:
    with contextlib.suppress(ValueError):
        return str(Path(file).relative_to(root))
    return file


def _said(exc: Exception) -> str:
    if isinstance(exc, ModuleNotFoundError) and (exc.name or "").partition(".")[0] == "feast":
        return f"{exc}: import from fastserve instead of feast"
    return f"{type(exc).__name__}: {exc.msg if isinstance(exc, SyntaxError) else exc}"
