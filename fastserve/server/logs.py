"""What the server writes: one line per request, and messages, both as text or as JSON.

    text   INFO:     2026-11-23T03:04:05.678Z 10.0.0.7:51234 - "POST /push HTTP/1.1" 200 0 4.412ms 8f3a01bc-1f
    JSON   {"time":"...","level":"info","logger":"fastserve.access","client":"10.0.0.7:51234","method":"POST",...}

A line of the access log has: time, client, request, status, bytes of the body, milliseconds, the request's id, and then
the name of the key if it carries one, and its traceparent if it has one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import traceback
from contextvars import ContextVar
from typing import Any

import msgspec

__all__ = ["LOG_FORMATS", "AccessLog", "JsonFormatter", "REQUEST_ID", "log_config"]

LOG_FORMATS = ("text", "json")
REQUEST_ID: ContextVar[str] = ContextVar("fastserve_request_id", default="")
"""The id of the request that a message is about."""

STDOUT = 1


class AccessLog:
    """Writes a line per request; the lines of one turn of the event loop leave in one write.

    Args:
        form: text or json.
        fd: the file descriptor to write to.
    """

    def __init__(self, form: str = "text", fd: int = STDOUT):
        self._is_json = form == "json"
        self._fd = fd
        self._lines: list[bytes] = []
        self._second = 0
        self._prefix = ""

    def write(
        self,
        client: str,
        method: str,
        path: str,
        status: int,
        size: int,
        milliseconds: float,
        request_id: str,
        key: str = "",
        trace: str = "",
    ) -> None:
        """Write a line, at the end of this turn of the running loop.

        Args:
            size: of the answer's body in bytes.
            key: the name of the key that the request carried.
            trace: the traceparent that it carried.
        """
        if not self._lines:
            asyncio.get_running_loop().call_soon(self.flush)
        if self._is_json:
            line = self._json(client, method, path, status, size, milliseconds, request_id, key, trace)
        else:
            rest = f" {key or '-'} {trace}" if trace else f" {key}" if key else ""
            took = f"{milliseconds:.3f}ms {request_id}{rest}"
            # As uvicorn writes it, with the time before and what is ours behind.
            place = f"{method} {_one_line(path)}"
            line = f'INFO:     {self._now()} {client} - "{place} HTTP/1.1" {status} {size} {took}'.encode()
        self._lines.append(line)

    def _json(
        self,
        client: str,
        method: str,
        path: str,
        status: int,
        size: int,
        took: float,
        request_id: str,
        key: str,
        trace: str,
    ) -> bytes:
        entry: dict[str, Any] = {
            "time": self._now(),
            "level": "info",
            "logger": "fastserve.access",
            "client": client,
            "method": method,
            "path": path,
            "status": status,
            "bytes": size,
            "duration_ms": round(took, 3),
            "request_id": request_id,
        }
        if key:
            entry["key"] = key
        if trace:
            entry |= {"trace_id": trace[3:35], "span_id": trace[36:52]}
        return msgspec.json.encode(entry)

    def flush(self) -> None:
        """Write what there is; a log that nobody takes any more is no error."""
        lines, self._lines = self._lines, []
        data = b"\n".join([*lines, b""]) if lines else b""
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._fd, data) :]

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now - second) * 1000):03}Z"


def _one_line(path: str) -> str:
    """A path may have any character, but the line is not to look like another one."""
    if path.isprintable() and '"' not in path:
        return path
    return path.encode("unicode_escape").decode().replace('"', "%22")


class JsonFormatter(logging.Formatter):
    """A message as one line of JSON, with the id of the request that it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if request_id := REQUEST_ID.get():
            entry["request_id"] = request_id
        if record.exc_info:
            entry["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        text = msgspec.json.encode(_sound(entry))
        return text.decode()


def _sound(entry: dict[str, Any]) -> dict[str, Any]:
    """Without halves of surrogate pairs, which are no text that could be written."""
    return {
        name: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for name, value in entry.items()
    }


class TextFormatter(logging.Formatter):
    """As uvicorn writes messages, with the time and the id of the request that it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the lines of a traceback."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        about = f" [{request_id}]" if (request_id := REQUEST_ID.get()) else ""
        level = f"{record.levelname}:"
        text = f"{level:9} {moment}.{int(record.msecs):03}Z{about} {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def log_config(form: str, level: str) -> dict[str, Any]:
    """Return the configuration of `logging` for a server's messages; each process sets it up for itself.

    Args:
        form: text or json.
        level: such as "info".
    """
    kind = "JsonFormatter" if form == "json" else "TextFormatter"
    quiet = {"handlers": ["messages"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"messages": {"()": f"fastserve.server.logs.{kind}"}},
        "handlers": {
            "messages": {"class": "logging.StreamHandler", "formatter": "messages", "stream": "ext://sys.stderr"}
        },
        "loggers": dict.fromkeys(("uvicorn", "uvicorn.error", "fastserve"), quiet),
    }
