"""The access log and messages, as text and as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.config
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fastserve.server.logs import REQUEST_ID, AccessLog, JsonFormatter, TextFormatter, log_config

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def written(form: str, folder: Path, write: Callable[[AccessLog], None]) -> list[str]:
    """Return the lines that an access log writes in a running loop."""

    async def run(log: AccessLog) -> None:
        write(log)
        await asyncio.sleep(0)

    path = folder / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    asyncio.run(run(AccessLog(form, fd)))
    os.close(fd)
    return path.read_text().splitlines()


def test_lines_of_text(tmp_path: Path) -> None:
    def write(log: AccessLog) -> None:
        log.write("1.2.3.4:5", "POST", "/push", 200, 7, 0.4121, "id-1")
        log.write("-", "GET", "/é", 404, 0, 12, "id-2", key="web")
        log.write("-", "GET", "/", 404, 0, 12, "id-3", trace=TRACE)

    first, second, third = written("text", tmp_path, write)
    assert re.fullmatch(rf'INFO:     {TIME} 1\.2\.3\.4:5 - "POST /push HTTP/1\.1" 200 7 0\.412ms id-1', first)
    assert second.endswith('- - "GET /é HTTP/1.1" 404 0 12.000ms id-2 web')
    assert third.endswith(f"id-3 - {TRACE}")


def test_lines_of_json(tmp_path: Path) -> None:
    def write(log: AccessLog) -> None:
        log.write("1.2.3.4:5", "POST", '/"\n', 200, 7, 0.4121, "id-1")
        log.write("-", "GET", "/", 401, 0, 12, "id-2", key="web", trace=TRACE)

    first, second = map(json.loads, written("json", tmp_path, write))
    assert re.fullmatch(TIME, first.pop("time"))
    assert first == {
        "level": "info",
        "logger": "fastserve.access",
        "client": "1.2.3.4:5",
        "method": "POST",
        "path": '/"\n',
        "status": 200,
        "bytes": 7,
        "duration_ms": 0.412,
        "request_id": "id-1",
    }
    assert (second["key"], second["trace_id"], second["span_id"]) == ("web", TRACE[3:35], TRACE[36:52])


def test_a_line_of_text_stays_one_line(tmp_path: Path) -> None:
    lines = written("text", tmp_path, lambda log: log.write("-", "GET", '/a\nINFO: "', 404, 0, 1, "id"))
    assert len(lines) == 1
    assert '"GET /a\\nINFO: %22 HTTP/1.1" 404' in lines[0]


def test_a_log_that_nobody_reads_is_no_error() -> None:
    async def run(log: AccessLog) -> None:
        log.write("-", "GET", "/", 200, 0, 1, "id")
        await asyncio.sleep(0)

    reading, writing = os.pipe()
    os.close(reading)
    asyncio.run(run(AccessLog("text", writing)))
    os.close(writing)


def record(message: str, *arguments: object, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error is not None else None
    return logging.LogRecord("fastserve.server", logging.ERROR, "file", 1, message, arguments, info)


def test_messages_as_json() -> None:
    entry = json.loads(JsonFormatter().format(record("a %s", "\ud800é")))
    assert (entry["level"], entry["logger"], entry["message"]) == ("error", "fastserve.server", "a ?é")
    assert "request_id" not in entry
    token = REQUEST_ID.set("id-1")
    try:
        entry = json.loads(JsonFormatter().format(record("a", error=ValueError("x"))))
    finally:
        REQUEST_ID.reset(token)
    assert entry["request_id"] == "id-1"
    assert entry["traceback"].endswith("ValueError: x\n")


def test_messages_as_text() -> None:
    assert re.fullmatch(rf"ERROR:    {TIME} a b", TextFormatter().format(record("a %s", "b")))
    token = REQUEST_ID.set("id-1")
    try:
        text = TextFormatter().format(record("a", error=ValueError("x")))
    finally:
        REQUEST_ID.reset(token)
    assert re.fullmatch(rf"ERROR:    {TIME} \[id-1\] a\nValueError: x", text)


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_configuration_is_one(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    names = ("uvicorn", "uvicorn.error", "fastserve")
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).propagate) for name in names}
    try:
        logging.config.dictConfig(log_config(form, "info"))
        logging.getLogger("fastserve.server").info("hello")
        logging.getLogger("uvicorn.error").debug("too low")
        output = capfd.readouterr()
    finally:
        for name, (handlers, propagate) in before.items():
            logging.getLogger(name).handlers[:] = handlers
            logging.getLogger(name).propagate = propagate
            logging.getLogger(name).setLevel(logging.NOTSET)
    assert output.err.count("\n") == 1
    assert "hello" in output.err
    assert output.err.startswith("{") == (form == "json")
