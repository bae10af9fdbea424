"""A server whose fast lane takes requests apart as ever and answers with ready bytes: what HTTP alone takes.

echo_server.py FOLDER SERVICE ENTITIES PORT
"""

from __future__ import annotations

import sys

from fastserve import FeatureStore
from fastserve._core import LaneRead
from fastserve.config import load_config
from fastserve.server import fastlane
from fastserve.server.answers import Answer
from fastserve.server.run import ServeOptions, serve

FOLDER, SERVICE, ENTITIES, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def ready() -> Answer:
    """Return an answer of the size that a real one has."""
    with FeatureStore(FOLDER) as store:
        rows = [{"customer_id": f"C{i:06d}"} for i in range(ENTITIES)]
        service = store.get_feature_service(SERVICE)
        return Answer(store.get_online_features(service, rows, full_feature_names=True).to_json())


READY = ready()


class Echo(fastlane.FastLane):
    """Reads nothing."""

    def _start(self, cycle: fastlane.ReadCycle, body: bytes) -> None:
        epoch = self.reads.store.plans_epoch
        request = self.reads.parse(body, cycle.head)
        batch = self.reads.begin(request)
        self.reads.learn(body, request, batch.plan, epoch)
        self.send(cycle, READY)

    def _take_quickly(self, data: bytes) -> bool:
        cycle = self.lane.begin(self, data, self.reads.store.plans_epoch) if self.lane else None
        if not isinstance(cycle, LaneRead):
            return False
        self.cycle = self.running = cycle
        self.phase = fastlane.ANSWERING
        self.life.in_flight += 1
        self._send_quickly(cycle, cycle.framed(READY.body, self.server_state.default_headers, False), False)
        return True


fastlane.FastLane = Echo  # type: ignore[misc]
serve(load_config(FOLDER), ServeOptions(port=PORT, access_log=False))
