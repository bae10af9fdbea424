"""The version, in one place: pyproject.toml, `fastserve version` and the tests read it here."""

__version__ = "0.1.0"
