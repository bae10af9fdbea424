"""One client in a process of its own; as worker.py, but the repository is on a server.

    remote_worker.py plain|fastserve|feast|... FOLDER

FOLDER has the feature_store.yaml of a client. `plain` sends the body of fastserve's request with the standard library's
client and reads the JSON that comes back, without looking into it.
"""

from __future__ import annotations

import http.client
import json
import sys
from typing import Any
from urllib.parse import urlsplit

from worker import Call, measure, references


def feast(folder: str, keys: list[str]) -> tuple[Call, Call]:
    from feast import FeatureStore

    return sdk(FeatureStore(repo_path=folder), keys)


def fastserve(folder: str, keys: list[str]) -> tuple[Call, Call]:
    from fastserve import FeatureStore

    return sdk(FeatureStore(repo_path=folder), keys)


def sdk(store: Any, keys: list[str]) -> tuple[Call, Call]:
    features, rows = references(), [{"customer_id": key} for key in keys]

    def ask() -> Any:
        return store.get_online_features(features=features, entity_rows=rows)

    return lambda: ask().to_dict(), lambda: ask().to_json() if hasattr(store, "_remote") else None


def plain(folder: str, keys: list[str]) -> tuple[Call, Call]:
    from fastserve import FeatureStore
    from fastserve.remote import READ_PATH

    store: Any = FeatureStore(repo_path=folder)
    request = store._remote._read_request(references(), [{"customer_id": key} for key in keys], False, False)
    connection = http.client.HTTPConnection(urlsplit(store.config.online_store.path).netloc)
    headers = {"Content-Type": "application/json"}

    def call() -> bytes:
        connection.request("POST", READ_PATH, request.body, headers)
        return connection.getresponse().read()

    return call, call


def main() -> None:
    kind = {"plain": plain, "feast": feast}.get(sys.argv[1], fastserve)
    for line in sys.stdin:
        request = json.loads(line)
        call, answer = kind(sys.argv[2], request["keys"])
        found = measure(call, request["calls"], answer)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
