"""Online stores. `open_store` picks one; each is imported only when it is configured."""

from __future__ import annotations

from fastserve.config import Config, RedisConfig, RemoteConfig, SqliteConfig
from fastserve.errors import ConfigError, NotSupportedError
from fastserve.stores.base import Store

__all__ = ["Store", "open_store"]


def open_store(config: Config) -> Store:
    """Return the configured online store; nothing is connected before the first read.

    Raises:
        ConfigError: no online store is configured.
        NotSupportedError: this store, or this kind of Redis, is not supported.
    """
    store = config.online_store
    if isinstance(store, RedisConfig):
        if store.redis_type != "redis":
            raise NotSupportedError(f"online_store.redis_type: {store.redis_type} is not supported; only 'redis' is")
        from fastserve.stores.redis import RedisStore

        return RedisStore(
            store.connection,
            key_ttl_seconds=store.key_ttl_seconds,
            skip_dedup=store.skip_dedup,
            full_scan_for_deletion=store.full_scan_for_deletion,
            project=config.project,
            max_in_flight=config.fastserve.async_max_in_flight,
            max_waiting=config.fastserve.async_max_waiting,
        )
    if isinstance(store, SqliteConfig):
        from fastserve.stores.sqlite import SqliteStore

        return SqliteStore(store.path, config.project)
    if isinstance(store, RemoteConfig):
        from fastserve.stores.remote import RemoteStore
        from fastserve.stores.remote_auth import token_of

        return RemoteStore(store, config.fastserve.remote_timeout_seconds, token_of(config.auth))
    raise ConfigError("online_store: none is configured, so there is nothing to read from")
