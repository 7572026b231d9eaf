"""Brings a database to the schema of this version, and refuses one that a later version wrote.

Alembic is imported only when there is something to migrate: 100 ms and 12 MB that a coordinator with a
current database need not pay.
"""

from pathlib import Path

import sqlalchemy as sa

from unisono.base.errors import BadConfiguration

from .database import Database

MIGRATIONS = Path(__file__).parent / "migrations"
_version = sa.table("alembic_version", sa.column("version_num", sa.Text))


def known_versions() -> tuple[str, ...]:
    """Return the schema versions that this installation has migrations for, oldest first."""
    return tuple(sorted(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")))


def schema_version(connection: sa.Connection) -> str | None:
    """Return the version the database is at; None if it is empty."""
    inspector = sa.inspect(connection)
    if inspector.has_table(_version.name):
        return connection.scalar(sa.select(_version.c.version_num))
    if tables := inspector.get_table_names():
        raise BadConfiguration(
            f"{connection.engine.url.database} was not written by unisono: "
            f"it has a table {tables[0]!r} and no version"
        )
    return None


def migrate(database: Database) -> None:
    """Upgrade in one transaction: a crash in the middle leaves the old schema."""
    known = known_versions()
    with database.read() as connection:
        found = schema_version(connection)
    if found is not None and found not in known:
        raise BadConfiguration(
            f"{database.path} has schema {found}, written by a later version of unisono; this version knows "
            f"schemas up to {known[-1]}\n"
            "  install the later version, or restore a backup made before the upgrade"
        )
    if found != known[-1]:
        with database.write() as connection:
            _upgrade(connection)


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command  # noqa: PLC0415 (see above)
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
