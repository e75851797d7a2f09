"""What a client and its connections may take."""

from __future__ import annotations

import attrs

from bulkhead_trio.policies._checks import check_duration, check_wait, check_whole


@attrs.frozen
class ClientLimits:
    """What a client may take; times in seconds.

    Attributes:
        connections: to one origin at the same time, those that are idle included.
        waiting: requests to one origin that may wait for a connection.
        wait: for one of them to come free; 0 refuses at once.
        idle_connections: kept open, to all origins together.
        idle: that a connection is kept when nobody uses it; a second less than the peer says, where
            it says. Shorter than what servers do is right: what they close just then costs a retry.
        lifetime: after which a connection is not used again, so that names are looked up again.
        connect: for a new connection: its name, TCP and TLS together.
        head: from the request's end, or what has been sent of it, to the end of the answer's head.
        read_gap: between two pieces of an answer's body.
        write: for the peer to take what it is sent.
        go_on: for the peer to ask for a body with 100; then it is sent unasked.
        head_bytes: of an answer's head.
        header_count: its fields.

    Raises:
        ValueError: a limit makes no sense; it is named.
    """

    connections: int = 100
    waiting: int = 1000
    wait: float = 5.0
    idle_connections: int = 1000
    idle: float = 15.0
    lifetime: float = 600.0
    connect: float = 5.0
    head: float = 30.0
    read_gap: float = 30.0
    write: float = 30.0
    go_on: float = 1.0
    head_bytes: int = 64 * 1024
    header_count: int = 200

    def __attrs_post_init__(self) -> None:
        check_whole("connections", self.connections, minimum=1)
        check_whole("waiting", self.waiting, minimum=0)
        check_whole("idle_connections", self.idle_connections, minimum=0)
        check_whole("head_bytes", self.head_bytes, minimum=1)
        check_whole("header_count", self.header_count, minimum=0)
        check_wait("wait", self.wait)
        for name in ("idle", "lifetime", "connect", "head", "read_gap", "write", "go_on"):
            check_duration(name, getattr(self, name))
