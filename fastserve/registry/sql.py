"""The SQL registry: Feast's tables in a database that SQLAlchemy can reach.

module          what
sql_tables.py   the tables
sql_rows.py     rows <-> a Registry message
database.py     connections, transactions, marks
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from fastserve.config import RegistryConfig
from fastserve.errors import RegistryError
from fastserve.registry import schema_pb2 as pb
from fastserve.registry import sql_rows
from fastserve.registry.database import Database
from fastserve.registry.lists import add_project
from fastserve.registry.snapshot import Snapshot, build_snapshot
from fastserve.registry.sql_tables import TABLES

__all__ = ["SqlRegistry"]

T = TypeVar("T")

ATTEMPTS = 20
"""Each time, somebody else has written the same rows meanwhile."""


class SqlRegistry:
    """A registry in a database.

    Args:
        config: a `registry:` section of type sql.
        project: whose objects are read and written.
        folder: where a relative path of SQLite starts.

    Raises:
        RegistryError: a URL cannot be used, or its driver is not installed.
    """

    def __init__(self, config: RegistryConfig, project: str, folder: Path):
        self.project = project
        self._config = config
        options = config.sqlalchemy_config_kwargs
        self._database = Database(config.path, options, folder)
        self._replica = Database(config.read_path, options, folder) if config.read_path else self._database

    def __repr__(self) -> str:
        return f"<SqlRegistry {self._database.name}, project {self.project}>"

    def mark(self) -> object:
        """Return something that is unequal after each change. Raises RegistryError."""
        return self._replica.mark(self.project)

    def load(self) -> Snapshot:
        """Read the project's rows; the message of the Snapshot has no other project's definitions.

        Raises:
            RegistryError: the database cannot be reached, has no registry, or a row is damaged.
        """
        # Before the rows: what changes in between is then read once more.
        mark = self.mark()
        with self._replica.reading() as connection:
            tables = self._replica.tables(connection)
            self._check_tables(self._replica, tables)
            state = sql_rows.read(connection, self.project, tables)
        return build_snapshot(state.message, self.project, mark)

    def update(self, edit: Callable[[pb.Registry], None], *, create: bool = False) -> Snapshot:
        """Change the registry: run `edit` on its newest state and write the rows that it changed, all or none.

        Updates come one after the other. If something else than fastserve changes the same rows meanwhile, `edit` is
        run again on what is there then.

        Args:
            edit: changes the message, in which only this project's definitions are, in place. If it raises, nothing is
                written; if it changes nothing, likewise.
            create: a registry that is not there starts empty.

        Returns:
            The new state.

        Raises:
            RegistryError: the registry is missing, cannot be written to, or other writers took more than 30 s; or the
                edit left an object twice, or one of another project.
        """
        return self._persist(lambda: self._try_update(edit, create))

    def _persist(self, attempt: Callable[[], T]) -> T:
        for _ in range(ATTEMPTS):
            with contextlib.suppress(sql_rows.Conflict):
                return attempt()
        raise RegistryError(f"registry {self._database.name} is being changed by others all the time; try again later")

    def _prepare(self, create: bool) -> None:
        """Make missing tables, where that is wanted."""
        present = self._database.look_for_tables()
        if self._config.schema_mode == "auto" and (create or present) and len(present) < len(TABLES.tables):
            self._database.create_tables()
        else:
            self._check_tables(self._database, present, create)

    def _try_update(self, edit: Callable[[pb.Registry], None], create: bool) -> Snapshot:
        self._prepare(create)
        with self._database.writing(self.project) as connection:
            # On SQLite the only moment to ask; the Refresher will then find our own change, which does no harm.
            mark = self._database.mark(self.project, connection)
            tables = self._database.tables(connection)
            state = sql_rows.read(connection, self.project, tables)
            if self._write(connection, state, edit):
                state = sql_rows.read(connection, self.project, tables)
                if not self._database.is_sqlite:
                    mark = self._database.mark(self.project, connection)
            return build_snapshot(state.message, self.project, mark)

    def _write(self, connection: Connection, state: sql_rows.State, edit: Callable[[pb.Registry], None]) -> bool:
        edited = pb.Registry()
        edited.CopyFrom(state.message)
        edit(edited)
        add_project(edited, self.project)
        metadata = not self._config.purge_feast_metadata
        return sql_rows.write(connection, state, edited, self.project, metadata=metadata)

    def teardown(self) -> None:
        """Delete the project's rows, from all tables; they may be gone already. The tables stay."""
        present = self._database.look_for_tables()
        if present:
            self._persist(lambda: self._remove(present))

    def _remove(self, tables: frozenset[str]) -> None:
        with self._database.writing(self.project) as connection:
            sql_rows.remove(connection, self.project, tables)

    def create_schema(self) -> None:
        """Create the tables that are missing, whatever `schema_mode` says. Raises RegistryError."""
        self._persist(self._database.create_tables)

    def _check_tables(self, database: Database, present: frozenset[str], create: bool = False) -> None:
        """Raise RegistryError if there are no tables, or fewer than there have to be."""
        lacking = sorted(TABLES.tables.keys() - present)
        if lacking and (self._config.schema_mode == "verify" or (create and not present)):
            raise RegistryError(
                f"registry {database.name} lacks tables: {', '.join(lacking)}; make them with `fastserve registry "
                "create-schema`, or with registry.schema_mode: auto"
            )
        if not present:
            raise database.missing()
