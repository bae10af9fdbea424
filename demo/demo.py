"""`make demo`: a small shop's features, from definitions and files to answers. Needs no server but its own."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

from tabulate import tabulate

from fastserve import FeatureStore, OnlineResponse

FOLDER = Path(__file__).parent / "repo"
REPOSITORY = FOLDER / "shop/feature_repo"
CUSTOMERS = [1001, 1002, 1030, 9999]


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    say(1, "A repository with definitions (features.py) and data (Parquet files) of a shop's customers:")
    command(FOLDER, "init", "shop")
    say(2, f"Its definitions, put into the registry; its files, loaded into an SQLite store. In {shown(REPOSITORY)}:")
    command(REPOSITORY, "apply")
    command(REPOSITORY, "materialize-incremental", f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S}")

    say(3, f"The SDK, asked for the service 'checkout', customers {', '.join(map(str, CUSTOMERS))}:")
    with FeatureStore(REPOSITORY) as store:
        print(table(read(store)))
        print("      -  not in the store")
        say(4, "Customer 9999 orders something; the shop pushes it, and it is there:")
        store.push("order_stream", order(9999, 19.99))
        print(table(read(store)))

    say(5, "The same over HTTP, from `fastserve serve`, for the new customer:")
    ask_over_http()
    print(NEXT.format(folder=shown(REPOSITORY), bin=Path(sys.executable).parent))


def say(number: int, text: str) -> None:
    print(f"\n  {number}.  {text}\n", flush=True)


def shown(path: Path) -> Path:
    """The path as short as it can be from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def command(folder: Path, *arguments: str) -> None:
    """Show a command of fastserve, and what it prints."""
    print(f"      $ {shlex.join(['fastserve', *arguments])}")
    done = subprocess.run(
        [sys.executable, "-m", "fastserve", *arguments],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    print(re.sub("^(?=.)", "        ", done.stdout, flags=re.MULTILINE), flush=True)
    if done.returncode:
        raise SystemExit(f"it ended with status {done.returncode}")


def read(store: FeatureStore) -> OnlineResponse:
    service = store.get_feature_service("checkout")
    return store.get_online_features(service, [{"customer_id": key} for key in CUSTOMERS])


def order(customer: int, amount: float) -> dict[str, list[object]]:
    now = datetime.now(timezone.utc)
    return {
        "customer_id": [customer],
        "last_amount": [amount],
        "orders_7d": [1],
        "amount_7d": [amount],
        "event_timestamp": [now],
        "created": [now],
    }


def table(answer: OnlineResponse) -> str:
    columns = {name: list(map(cell, values, answer.statuses[name])) for name, values in answer.to_dict().items()}
    text = tabulate(columns, headers="keys", tablefmt="simple", disable_numparse=True)
    return re.sub("^", "      ", text, flags=re.MULTILINE)


def cell(value: object, status: str) -> str:
    return "-" if status == "NOT_FOUND" else str(value)


def ask_over_http() -> None:
    serve = [sys.executable, "-m", "fastserve", "-c", str(REPOSITORY), "serve", "--port", "0", "--no-access-log"]
    with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = listening_url(server)
            request = {"feature_service": "checkout", "entities": {"customer_id": [9999]}}
            headers = {"Content-Type": "application/json"}
            post = urllib.request.Request(f"{url}/get-online-features", json.dumps(request).encode(), headers)
            with urllib.request.urlopen(post) as response:
                body = json.load(response)
            print(f"      POST {url}/get-online-features  {request}")
            print(f"      {response.status} {response.reason}")
            for name, result in zip(body["metadata"]["feature_names"], body["results"], strict=True):
                print(f"      {name:12} {result['values'][0]!s:10} {result['statuses'][0]}")
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
      fastserve get checkout -e customer_id=1001 -e customer_id=1002     the same, from the command line
      fastserve apply --dry-run                                          after editing features.py: what would change
      fastserve serve                                                    then open http://127.0.0.1:6566/docs

  With a Feast repository of your own: go to its folder instead; nothing in it has to change.
"""

if __name__ == "__main__":
    main()
