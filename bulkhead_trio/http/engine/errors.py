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


class AnswerCutOff(Exception):
    """An application raises it to end an answer in the middle: what it was made of has broken off.

    The connection is closed, which tells the client that this is not all; it is no accident.
    """


class ClientGone(ConnectionResetError):
    """The client has gone; for what of an application is not cancelled when that happens.

    Attributes:
        code: what a request counts as that ended so.
    """

    code = "cancelled"

    def __init__(self) -> None:
        super().__init__("the client has gone")
