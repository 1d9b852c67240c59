"""The process: its socket, its token, and how it ends.

Told to stop, it goes on answering what it has accepted, closes each connection with
its answer, and refuses new ones. What is not answered when the time is over gets 503
and is counted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import time
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dm_training.serving.app import make_app
from dm_training.serving.errors import ServeError
from dm_training.serving.service import Service

TOKEN_VARIABLE = "DM_SERVE_TOKEN"
LEAST_TOKEN = 16
_LINGER_S = 0.3  # clients between two requests get their answer to the second
_IDLE_S = 15.0


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Take the address before the model is loaded, so that a taken one says so.

    Raises:
        ServeError: It cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as err:
        raise ServeError(f"cannot listen on {host} port {port}: {err}") from err


def read_token(path: str | None, host: str) -> str | None:
    """The token that clients must send.

    Args:
        path: A file of one line; None for the environment's `DM_SERVE_TOKEN`.
        host: Where is listened; None is no answer beyond loopback.

    Raises:
        ServeError: None is set and one is due, or it is too short or not plain text.
    """
    if path is None:
        token, where = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
    else:
        where = f"--token-file {path}"
        try:
            token = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as err:
            raise ServeError(f"{where}: {type(err).__name__}") from err
    if token is None:
        if is_loopback(host):
            return None
        raise ServeError(
            f"{host} may be reached from other machines, so a token is due: "
            f"--token-file FILE, or {TOKEN_VARIABLE} in the environment"
        )
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable():
        raise ServeError(
            f"{where}: a token must be at least {LEAST_TOKEN} plain characters, "
            f"received {len(token)}"
        )
    return token


class Protocol(H11Protocol):
    """HTTP/1.1 that ends connections on which no request's head gets finished."""

    idle_s = _IDLE_S
    _seen = _timer = None

    def connection_made(self, transport) -> None:
        """Start the clock with the connection."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.idle_s, self._look)

    def connection_lost(self, exc) -> None:
        """Stop the clock."""
        self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is self._seen:
            self.transport.close()
            return
        self._seen = self.cycle
        self._timer = self.loop.call_later(self.idle_s, self._look)


class Server(uvicorn.Server):
    """A server that drains.

    Args:
        service: What is served.
        token: As `make_app`.
        hosts: As `make_app`.
    """

    def __init__(self, service: Service, *, token: str | None = None, hosts=None):
        self.service = service
        limits = service.limits
        super().__init__(
            uvicorn.Config(
                make_app(service, token=token, hosts=hosts), http=Protocol,
                lifespan="off", ws="none", access_log=False, log_config=None,
                log_level="error", server_header=False, timeout_graceful_shutdown=2,
                limit_concurrency=4 * limits.max_queue + 64,
            )
        )  # fmt: skip

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then end.

        Connections are told to close only once no new one is to be had: a client that
        was told so before would come back in the moment in which the door closes.
        """
        service, deadline = self.service, time.monotonic() + self._drain_s
        service.draining = True
        await self._stop_listening(sockets or [])
        service.closing = True
        await asyncio.sleep(min(_LINGER_S, self._drain_s))
        while service.admission.held and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        service.give_up()
        await super().shutdown(sockets)
        service.close()

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Close the door behind the connections that the system has made already."""
        taken = []
        for listener in sockets:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except BlockingIOError:
                    break
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in taken:
            connection.setblocking(False)
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> Protocol:
        return Protocol(
            config=self.config, server_state=self.server_state,
            app_state=self.lifespan.state,
        )  # fmt: skip

    @property
    def _drain_s(self) -> float:
        return self.service.limits.drain_s
