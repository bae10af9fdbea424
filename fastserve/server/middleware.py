"""The hooks around requests that go through ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastserve.errors import FastserveError
from fastserve.server.answers import answer_of_failure
from fastserve.server.hooks import LEFT, Exchange, Hooks
from fastserve.server.read import Head

__all__ = ["HookMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class HookMiddleware:
    """Calls the hooks of `app.state.hooks`; routes find the Head in `request.state.head`."""

    def __init__(self, app: App):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hooks: Hooks = scope["app"].state.hooks
        head = Head(scope["headers"])
        exchange = hooks.begin(scope["method"], _path(scope), head, _client(scope))
        scope.setdefault("state", {})["head"] = head
        sender = _Sender(exchange, send)
        with hooks.about(exchange):
            try:
                hooks.check(exchange, head)
            except FastserveError as exc:
                answer = answer_of_failure(exc, f"{exchange.method} {exchange.path}").response()
                await answer(scope, receive, sender)
            else:
                await self._app(scope, receive, sender)
            finally:
                hooks.end(exchange, sender.status, sender.size)


class _Sender:
    """Sends an answer with the headers of its Exchange, and remembers its status and size."""

    def __init__(self, exchange: Exchange, send: Send):
        self._exchange = exchange
        self._send = send
        self.status = LEFT
        self.size = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), *self._exchange.headers]
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
        await self._send(message)


def _path(scope: Scope) -> str:
    """The path below where the application is mounted."""
    path, root = scope["path"], scope.get("root_path", "")
    return path[len(root) :] or "/" if root and path.startswith(root) else path


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else "-"
