"""Installs each built wheel in a clean environment and has it serve one request.

    python wheels/check.py [--pythons 3.11,3.13] [--dist wheels/dist] [--budget-ms 150]

For each wheel, with no source tree on the path: what it and the sdist contain; `import fastserve` (its time, the heavy
modules it must not load, the threads it must not start); then `fastserve serve` on a copy of the recorded bank with its
embedded SQLite store, asked over HTTP, compared with Feast's recorded answer, and stopped by process id.
Needs only the standard library; wheels whose Python is not on this machine fail the check.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 15.0

# Imports the package and then the SDK, in an interpreter that has done nothing else, and tells what that cost.
PROBE = """
import json, sys, threading, time
start = time.perf_counter()
import fastserve
ms, modules, threads = (time.perf_counter() - start) * 1000, sorted(sys.modules), threading.active_count()
start = time.perf_counter()
from fastserve import FeatureStore
sdk_ms = (time.perf_counter() - start) * 1000
print(json.dumps({"ms": ms, "sdk_ms": sdk_ms, "modules": modules, "threads": threads, "file": fastserve.__file__}))
"""

# Runs with the wheel's Python and the tests' own helpers, but makes data only: nothing of fastserve is imported.
MAKE_BANK = """
import sys
from pathlib import Path
from tests import goldens
folder = goldens.copy_bank(Path(sys.argv[1]), {"type": "sqlite", "path": "data/online.db"})
goldens.build_sqlite(folder / "data" / "online.db")
"""


class CheckError(Exception):
    """The wheel is not good; the text says why."""


def main() -> int:
    """Check the wheels that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(description="Installs each built wheel cleanly and has it serve one request.")
    parser.add_argument("--dist", type=Path, default=ROOT / "wheels" / "dist", help="folder of the wheels")
    parser.add_argument("--pythons", default="", help="only these versions, such as 3.11,3.13")
    parser.add_argument("--budget-ms", type=float, default=150.0, help="longest `import fastserve`, in milliseconds")
    options = parser.parse_args()
    wanted = {version for version in options.pythons.split(",") if version}
    wheels = {version_of(wheel): wheel for wheel in sorted(options.dist.resolve().glob("fastserve-*.whl"))}
    chosen = {version: wheel for version, wheel in wheels.items() if not wanted or version in wanted}
    if not chosen or wanted - set(chosen):
        print(f"no wheel for {', '.join(sorted(wanted - set(chosen))) or 'any Python'} in {options.dist}")
        return 1
    failed = 0
    for version in sorted(chosen, key=lambda text: int(text.split(".")[1])):
        try:
            print(f"{chosen[version].name}: {check(version, chosen[version], options.budget_ms)}", flush=True)
        except CheckError as error:
            print(f"{chosen[version].name}: FAILED: {error}", flush=True)
            failed += 1
    failed += check_sdist(options.dist)
    print(f"{len(chosen) + 1 - failed} passed, {failed} failed")
    return 1 if failed else 0


def version_of(wheel: Path) -> str:
    """Return the Python version of a wheel's tag: cp311 is 3.11."""
    tag = wheel.name.split("-")[2]
    return f"{tag[2]}.{tag[3:]}"


def check(version: str, wheel: Path, budget_ms: float) -> str:
    """Check one wheel; return what is worth knowing about it."""
    check_wheel_content(wheel)
    with tempfile.TemporaryDirectory(prefix="fastserve-wheel-") as name:
        folder = Path(name)
        bin_folder = install(version, wheel, folder)
        imported = check_import(bin_folder, folder, budget_ms)
        bank = folder / "bank"
        run([bin_folder / "python", "-c", MAKE_BANK, bank], cwd=folder, PYTHONPATH=str(ROOT))
        with serving(bin_folder, bank) as port:
            check_answer(port)
    return f"{wheel.stat().st_size / 1e6:.1f} MB, {imported}, served"


def check_wheel_content(wheel: Path) -> None:
    """A wheel holds the module, its types and no sources of the compiled part."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for needed in ("fastserve/py.typed", "fastserve/_core.pyi"):
        if needed not in names:
            raise CheckError(f"{needed} is missing")
    spare = [n for n in names if n.endswith((".pyx", ".pxi", ".c")) or not n.startswith("fastserve")]
    if spare:
        raise CheckError(f"does not belong in a wheel: {', '.join(spare)}")


def check_sdist(dist: Path) -> int:
    """An sdist holds the sources of the compiled part and no generated C; return the number of failures."""
    archives = list(dist.glob("fastserve-*.tar.gz"))
    if len(archives) != 1:
        print(f"sdist: FAILED: {len(archives)} in {dist}, expected one")
        return 1
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    parts = {f"fastserve/{path.name}" for path in (ROOT / "fastserve").glob("_core*.p[yx]*")}
    wrong = sorted(parts - names) + sorted(name for name in names if name.endswith((".c", ".so")))
    print(f"{archives[0].name}: " + (f"FAILED: missing or spare: {', '.join(wrong)}" if wrong else "complete"))
    return 1 if wrong else 0


def install(version: str, wheel: Path, folder: Path) -> Path:
    """Make an environment in `folder` with the wheel and its server extra; return the folder of its programs."""
    python = find_python(version)
    run([python, "-m", "venv", folder / "env"], cwd=folder)
    bin_folder = folder / "env" / "bin"
    run([bin_folder / "python", "-m", "pip", "install", "--quiet", f"{wheel}[server]"], cwd=folder)
    run([bin_folder / "python", "-m", "pip", "check"], cwd=folder)
    return bin_folder


def find_python(version: str) -> Path:
    """Return an interpreter of this version, such as 3.11: the one that runs this if it is."""
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return Path(sys.executable)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    tag = version.replace(".", "")
    places = [f"/opt/python/cp{tag}-cp{tag}/bin/python", *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))]
    places += [f"/usr/local/bin/python{version}", f"/usr/bin/python{version}"]
    for place in places:
        if Path(place).is_file():
            return Path(place)
    on_path = shutil.which(f"python{version}")
    if on_path is None:
        raise CheckError(f"no Python {version} on this machine")
    return Path(on_path)


def run(command: list[str | Path], cwd: Path, **environment: str) -> str:
    """Run a command away from the source tree; return what it printed.

    Raises:
        CheckError: it failed; the text ends with what it said.
    """
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean_environment() | environment, capture_output=True, text=True
    )
    if done.returncode:
        raise CheckError(f"{Path(command[0]).name} {command[1]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would put other code on Python's path."""
    return {name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def check_import(bin_folder: Path, folder: Path, budget_ms: float) -> str:
    """Import in five fresh interpreters; return the best times."""
    probes = [json.loads(run([bin_folder / "python", "-I", "-c", PROBE], cwd=folder)) for _ in range(5)]
    probe: dict[str, Any] = min(probes, key=lambda each: float(each["ms"]))
    if not probe["file"].startswith(str(bin_folder.parent)):
        raise CheckError(f"imported {probe['file']}, not the installed wheel")
    heavy = [name for name in probe["modules"] if is_heavy(name)]
    if heavy:
        raise CheckError(f"`import fastserve` loads {', '.join(heavy)}")
    if probe["threads"] != 1:
        raise CheckError(f"`import fastserve` starts {probe['threads'] - 1} threads")
    if probe["ms"] > budget_ms:
        raise CheckError(f"`import fastserve` takes {probe['ms']:.0f} ms, allowed are {budget_ms:.0f}")
    return f"import {probe['ms']:.0f} ms (FeatureStore {min(each['sdk_ms'] for each in probes):.0f} ms)"


def is_heavy(module: str) -> bool:
    """Whether `import fastserve` must not load this module."""
    heavy = {"numpy", "pandas", "pyarrow", "sqlalchemy", "uvicorn", "starlette", "httpx"}
    return module.partition(".")[0] in heavy or module.endswith("_pb2") or module.startswith("fastserve.server")


@contextlib.contextmanager
def serving(bin_folder: Path, bank: Path) -> Iterator[int]:
    """Run `fastserve serve` in the bank's folder; yields its port once it answers, stops it by process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    log = bank / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [bin_folder / "fastserve", "serve", "--host", "127.0.0.1", "--port", str(port)],
            cwd=bank,
            env=clean_environment(),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until_ready(server, port, log)
            yield port
        finally:
            stop(server, log)


def wait_until_ready(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until /health answers 200."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ask(port, "GET", "/health")[0] == 200:
                return
        time.sleep(0.05)
    raise CheckError(f"`fastserve serve` did not start:\n{log.read_text()}")


def stop(server: subprocess.Popen[bytes], log: Path) -> None:
    """Ask the server to stop; one that does not, or complains, fails the check."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
    try:
        status = server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
        raise CheckError(f"`fastserve serve` did not stop:\n{log.read_text()}") from None
    if status not in (0, -signal.SIGTERM):
        raise CheckError(f"`fastserve serve` ended with status {status}:\n{log.read_text()}")


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Send one HTTP request; return (status, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def check_answer(port: int) -> None:
    """Ask what was asked of Feast when the bank was recorded, and compare the values."""
    recorded = json.loads((ROOT / "tests" / "golden" / "http_pairs_sqlite.json").read_text())["pairs"][0]
    request, response = recorded["request"], recorded["response"]
    status, body = ask(port, request["method"], request["path"], json.dumps(request["body"]).encode())
    if status != response["status"]:
        raise CheckError(f"status {status}, expected {response['status']}: {body.decode(errors='replace')}")
    got, expected = values_by_name(json.loads(body)), values_by_name(json.loads(response["body_text"]))
    if got != expected:
        raise CheckError(f"answered {got}, expected {expected}")


def values_by_name(answer: dict[str, Any]) -> dict[str, list[Any]]:
    """Return name -> values of an answer. Statuses are left out: they tell more than Feast's on purpose."""
    names = answer["metadata"]["feature_names"]
    return {name: result["values"] for name, result in zip(names, answer["results"], strict=True)}


if __name__ == "__main__":
    sys.exit(main())
