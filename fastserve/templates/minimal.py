"""The smallest repository: where the registry and the online store are."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write"]

CONFIG = """\
project: {project}
provider: local
registry: data/registry.db
online_store:
  type: sqlite
  path: data/online_store.db
entity_key_serialization_version: 3
"""

IGNORED = """\
__pycache__/
*.pyc
*.db
*.db-shm
*.db-wal
"""


def write(folder: Path, repository: Path, project: str) -> None:
    """Write it; `repository` is there, below `folder`."""
    (repository / "data").mkdir()
    (repository / "feature_store.yaml").write_text(CONFIG.format(project=project))
    (folder / ".gitignore").write_text(IGNORED)
