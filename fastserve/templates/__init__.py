"""New repositories, as `fastserve init` writes them.

local.py    customers of a shop, with data, for the local machine
minimal.py  a feature_store.yaml, and nothing else
"""

from __future__ import annotations

from pathlib import Path

from fastserve.errors import RepositoryError
from fastserve.templates import local, minimal

__all__ = ["TEMPLATES", "write_repository"]

TEMPLATES = {"local": local.write, "minimal": minimal.write}


def write_repository(folder: Path, project: str, template: str) -> Path:
    """Write a new repository and return its folder, which is `feature_repo` in the given one.

    Args:
        folder: made if it is not there.
        project: the project's name.
        template: one of TEMPLATES.

    Raises:
        RepositoryError: there is a repository already, or the folder cannot be written.
    """
    repository = folder / "feature_repo"
    try:
        repository.mkdir(parents=True)
        TEMPLATES[template](folder, repository, project)
    except FileExistsError:
        raise RepositoryError(f"{repository} exists; choose another folder, or delete it") from None
    except OSError as exc:
        raise RepositoryError(f"{repository} cannot be written: {exc.strerror or exc}") from exc
    return repository
