"""`make demo`: a small bank's features, read through the SDK and over HTTP. Needs no server but its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
from bank import write_repository
from tabulate import tabulate

from fastserve import FeatureStore, OnlineResponse

FOLDER = Path(__file__).parent / "repo"
CUSTOMERS = ["C1", "C2", "C3", "C9"]


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    write_repository(FOLDER)
    say(1, f"Wrote a bank's feature repository into {shown(FOLDER)}: definitions, and features in an SQLite store.")

    say(2, f"Asked the SDK for all features of the service 'fraud_model', for {', '.join(CUSTOMERS)}:")
    with FeatureStore(FOLDER) as store:
        service = store.get_feature_service("fraud_model")
        answer = store.get_online_features(service, [{"customer_id": key} for key in CUSTOMERS])
    print(table(answer))
    print("      * older than the view's ttl of 7 days   - not in the store   null: stored, but without a value")

    say(3, "Started `fastserve serve` and asked the same over HTTP, for C1 only:")
    ask_over_http()
    print(NEXT.format(folder=shown(FOLDER), bin=Path(sys.executable).parent))


def say(number: int, text: str) -> None:
    print(f"\n  {number}.  {text}\n")


def shown(path: Path) -> Path:
    """The path as short as it can be from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def table(answer: OnlineResponse) -> str:
    columns = {name: list(map(cell, values, answer.statuses[name])) for name, values in answer.to_dict().items()}
    text = tabulate(columns, headers="keys", tablefmt="simple", disable_numparse=True)
    return re.sub("^", "      ", text, flags=re.MULTILINE)


def cell(value: object, status: str) -> str:
    if status == "NOT_FOUND":
        return "-"
    text = "null" if value is None else f"{value:%Y-%m-%d}" if hasattr(value, "year") else str(value)
    return f"{text} *" if status == "OUTSIDE_MAX_AGE" else text


def ask_over_http() -> None:
    command = [sys.executable, "-m", "fastserve", "-c", str(FOLDER), "serve", "--port", "0", "--no-access-log"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = listening_url(server)
            request = {"feature_service": "fraud_model", "entities": {"customer_id": ["C1"]}}
            response = httpx.post(f"{url}/get-online-features", json=request)
            print(f"      POST {url}/get-online-features  {request}")
            print(f"      {response.status_code} {response.reason_phrase}")
            body = response.json()
            for name, result in zip(body["metadata"]["feature_names"], body["results"], strict=True):
                print(f"      {name:15} {result['values'][0]!s:12} {result['statuses'][0]}")
        finally:
            server.terminate()


def listening_url(server: subprocess.Popen[str]) -> str:
    """Wait until the server says where it listens."""
    said = ""
    assert server.stderr is not None
    for line in server.stderr:
        said += line
        if found := re.search(r"http://[\d.]+:\d+", line):
            return found[0]
    raise SystemExit(f"the server did not start:\n{said}")


NEXT = """
  What to try next:

      export PATH="{bin}:$PATH"; cd {folder}
      fastserve get fraud_model -e customer_id=C1 -e customer_id=C2      the same, from the command line
      fastserve plan fraud_model                                         what such a read asks the store for
      fastserve serve                                                    then open http://127.0.0.1:6566/docs

  With a Feast repository of your own: go to its folder instead; nothing in it has to change.
"""

if __name__ == "__main__":
    main()
