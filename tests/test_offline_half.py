"""What Feast's FeatureStore has and fastserve has not."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest

from fastserve import FeatureStore
from fastserve.errors import NotSupportedError
from fastserve.offline_half import OfflineHalfMixin

NOTHING = {"get_feature_server_endpoint", "embedding_provider", "mlflow", "openlineage_emitter"}
NAMES = {name for name in vars(OfflineHalfMixin) if not name.startswith("_")}


@pytest.fixture
def store(sqlite_bank_repo: Path) -> FeatureStore:
    return FeatureStore(sqlite_bank_repo)


@pytest.mark.parametrize("name", sorted(NAMES - NOTHING))
def test_methods_say_what_to_use_instead(store: FeatureStore, name: str) -> None:
    with pytest.raises(NotSupportedError, match=rf"^FeatureStore\.{name} is not supported: .*\w{{4}}"):
        result = getattr(store, name)("anything", given="by name")
        if inspect.iscoroutine(result):
            asyncio.run(result)


def test_what_is_nothing(store: FeatureStore) -> None:
    assert store.get_feature_server_endpoint() is None  # type: ignore[func-returns-value]
    assert store.embedding_provider is store.mlflow is store.openlineage_emitter is None
