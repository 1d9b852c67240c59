"""What goes wrong in serving: at the start, and with one request."""

from __future__ import annotations

from collections.abc import Mapping


class ServeError(ValueError):
    """What is to be served cannot be; the message names it."""


class RequestError(ValueError):
    """A request cannot be answered; the message goes to who asked, never to a log.

    Attributes:
        status: The HTTP status.
        headers: What the answer's head says besides.
        facts: Further fields of the answer's body.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        headers: Mapping[str, str] | None = None,
        facts: Mapping[str, object] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.facts = dict(facts or {})
