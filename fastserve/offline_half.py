"""The methods of Feast's FeatureStore that fastserve does not have: each says so, and what to use instead."""

from __future__ import annotations

from typing import Any, NoReturn

from fastserve.errors import NotSupportedError

__all__ = ["OfflineHalfMixin"]

_FEAST = "use Feast's own FeatureStore on the same repository, which may be installed beside fastserve"
_SEARCH = "vector search is not part of fastserve; use Feast with an online store that has it"


def _refuse(method: str, instead: str = _FEAST) -> NoReturn:
    raise NotSupportedError(f"FeatureStore.{method} is not supported: {instead}")


class OfflineHalfMixin:
    """The offline half, vector search and servers of other kinds; every method raises NotSupportedError."""

    def get_historical_features(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError: training data is Feast's."""
        _refuse("get_historical_features")

    def create_saved_dataset(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("create_saved_dataset")

    def create_dataset_from_retrieval(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("create_dataset_from_retrieval")

    def get_saved_dataset(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("get_saved_dataset")

    def list_saved_datasets(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("list_saved_datasets")

    def retrieve_dataset_data(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("retrieve_dataset_data")

    def get_validation_reference(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("get_validation_reference")

    def list_validation_references(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("list_validation_references")

    def validate_logged_features(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("validate_logged_features")

    def write_logged_features(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("write_logged_features")

    def serve_ui(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("serve_ui", "run `feast ui` on the same repository")

    def serve_registry(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("serve_registry", "run `feast serve_registry` on the same repository")

    def serve_offline(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("serve_offline", "run `feast serve_offline` on the same repository")

    def serve_transformations(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("serve_transformations", "on-demand feature views run in this process; see fastserve.allow_on_demand")

    def get_feature_server_endpoint(self) -> None:
        """Return None: fastserve does not deploy servers."""

    def retrieve_online_documents(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("retrieve_online_documents", _SEARCH)

    def retrieve_online_documents_v2(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("retrieve_online_documents_v2", _SEARCH)

    async def openai_search(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("openai_search", _SEARCH)

    async def update_online_store(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotSupportedError: as on every store of Feast's without list updates."""
        _refuse("update_online_store", "read the list, change it, and write it with write_to_online_store")

    @property
    def embedding_provider(self) -> None:
        """None: fastserve makes no embeddings."""

    @property
    def mlflow(self) -> None:
        """None: fastserve keeps no record of experiments."""

    @property
    def openlineage_emitter(self) -> None:
        """None: fastserve emits no lineage."""

    @property
    def provider(self) -> NoReturn:
        """Raise NotSupportedError."""
        _refuse("provider", "there is none; the methods of FeatureStore do what its methods do")
