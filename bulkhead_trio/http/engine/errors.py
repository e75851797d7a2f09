"""What can be wrong with bytes that should be HTTP/1.1."""

from __future__ import annotations


class ProtocolError(Exception):
    """The peer does not speak HTTP/1.1 as RFC 9112 wants it, or beyond what is taken here.

    Attributes:
        status: what a server answers before it closes the connection.
    """

    def __init__(self, reason: str, *, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class LocalProtocolError(Exception):
    """Our own side tried to send what is no HTTP/1.1: a mistake of the application."""
