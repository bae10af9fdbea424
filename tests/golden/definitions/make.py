"""Writes messages.json: what Feast makes of features.py. Run with the Python of a Feast 0.67.0: `python make.py`."""

import json
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

from features import OBJECTS  # noqa: E402
from google.protobuf.json_format import MessageToDict  # noqa: E402


def without_times(found):
    if isinstance(found, dict):
        return {k: without_times(v) for k, v in found.items() if not k.endswith(("created_timestamp", "last_updated_timestamp"))}
    return [without_times(item) for item in found] if isinstance(found, list) else found


messages = {
    item.name: {
        "type": item.to_proto().DESCRIPTOR.name,
        "message": without_times(MessageToDict(item.to_proto(), preserving_proto_field_name=True)),
    }
    for item in OBJECTS
}
Path(__file__).with_name("messages.json").write_text(json.dumps(messages, indent=1, sort_keys=True) + "\n")
