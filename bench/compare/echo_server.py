"""A server whose fast lane answers with ready bytes: what HTTP alone takes.

echo_server.py FOLDER ENTITIES PORT
"""

from __future__ import annotations

import sys

from worker import references

from fastserve import FeatureStore
from fastserve.config import load_config
from fastserve.server import fastlane
from fastserve.server.answers import Answer
from fastserve.server.run import ServeOptions, serve

FOLDER, ENTITIES, PORT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def ready() -> Answer:
    """Return an answer of the size that a real one has."""
    with FeatureStore(FOLDER) as store:
        rows = [{"customer_id": f"C{i:06d}"} for i in range(ENTITIES)]
        return Answer(store.get_online_features(references(), rows).to_json())


READY = ready()


class Echo(fastlane.FastLane):
    """Takes requests apart and reads nothing."""

    def _start(self, cycle: fastlane.ReadCycle, body: bytes) -> None:
        self.send(cycle, READY)


fastlane.FastLane = Echo  # type: ignore[misc]
serve(load_config(FOLDER), ServeOptions(port=PORT, access_log=False))
