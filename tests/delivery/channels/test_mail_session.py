"""One session with a mail server, said line by line; blocking, as it is."""

from __future__ import annotations

import threading
import time

import pytest

from bulkhead_trio.delivery.channels._mail_rules import MailRefused, MailServer, Reply, Trouble
from bulkhead_trio.delivery.channels.mail_session import MailSession
from bulkhead_trio.http.client import client_tls_context

from ._mail import EHLO, ENVELOPE, GOOD, GREETING, scripted_server

CONTEXT = client_tls_context()
SIZE = b"250-here\r\n250 SIZE 1000\r\n"
AUTH = b"250-here\r\n250 AUTH PLAIN\r\n"


def session(port: int, protection: str = "try", **members: str) -> MailSession:
    server = MailServer("localhost", port, protection, **members)  # type: ignore[arg-type]
    return MailSession(server, ["127.0.0.1"], CONTEXT)


def test_session_hands_a_message_over() -> None:
    """Command by command; a line that is a dot alone is doubled; and says goodbye."""
    with scripted_server(*GOOD) as seen:
        reply = session(seen.port).hand_over(ENVELOPE)
    assert reply == Reply(250, "taken")
    (lines,) = seen.connections
    assert lines == [
        b"ehlo [127.0.0.1]\r\n",
        b"mail FROM:<a@shop.example>\r\n",
        b"rcpt TO:<ann@example.com>\r\n",
        b"data\r\n",
        b"Subject: x\r\n",
        b"\r\n",
        b"..\r\n",
        b"hello\r\n",
        b".\r\n",
        b"QUIT\r\n",
    ]


def test_session_says_how_large_a_message_is() -> None:
    """To a server that wants to know, before it is sent."""
    with scripted_server(GREETING, SIZE, b"552 too large\r\n", b"221 bye\r\n") as seen:
        assert session(seen.port).hand_over(ENVELOPE) == Reply(552, "too large")
    assert seen.connections[0][1] == b"mail FROM:<a@shop.example> size=24\r\n"


@pytest.mark.parametrize(
    ("place", "reply", "code"),
    [
        (2, b"451 later\r\n", 451),
        (2, b"550 nobody\r\n", 550),
        (3, b"450-busy\r\n450 later\r\n", 450),
        (3, b"553 no\r\n", 553),
        (4, b"554 no\r\n", 554),
        (5, b"452 full\r\n", 452),
        (5, b"554 spam\r\n", 554),
    ],
)
def test_session_tells_what_is_said_of_the_message(place: int, reply: bytes, code: int) -> None:
    """At whichever command."""
    replies = [*GOOD[:place], reply, b"221 bye\r\n"]
    with scripted_server(*replies) as seen:
        found = session(seen.port).hand_over(ENVELOPE)
    assert found.code == code
    assert found.is_final == (code >= 500)


@pytest.mark.parametrize(
    ("replies", "trouble"),
    [
        ([b"554 not you\r\n"], Trouble.SESSION),
        ([b"421 later\r\n"], Trouble.SESSION),
        ([GREETING, b"550 no\r\n", b"550 no\r\n"], Trouble.SESSION),
        ([], Trouble.BROKEN_OFF),
        ([GREETING], Trouble.BROKEN_OFF),
        (GOOD[:3], Trouble.BROKEN_OFF),
        (GOOD[:5], Trouble.BROKEN_OFF),
        ([b"HTTP/1.1 400 Bad Request\r\n"], Trouble.NO_REPLY),
        ([GREETING, EHLO, b"what?\r\n"], Trouble.NO_REPLY),
        ([*GOOD[:3], b"354 go\r\n"], Trouble.NO_REPLY),
        ([b"220-" + b"x" * 5000 + b"\r\n"] * 1, Trouble.BROKEN_OFF),
        ([b"220-x\r\n" * 20_000], Trouble.BROKEN_OFF),
        ([b"220 " + b"x" * 9000 + b"\r\n"], Trouble.SESSION),
    ],
)
def test_session_tells_what_is_wrong_with_the_server(
    replies: list[bytes], trouble: Trouble
) -> None:
    """Refusals of all mail, broken connections, and what is no mail server; in bounded memory."""
    with scripted_server(*replies) as seen, pytest.raises(MailRefused) as caught:
        session(seen.port).hand_over(ENVELOPE)
    assert caught.value.trouble is trouble


def test_session_ends_although_the_goodbye_is_not_answered() -> None:
    """By then the server has the message."""
    with scripted_server(*GOOD[:6]) as seen:
        assert session(seen.port).hand_over(ENVELOPE).is_accepted


def test_session_finds_nobody() -> None:
    """At an address where nobody listens."""
    with scripted_server() as seen:
        port = seen.port
    with pytest.raises(MailRefused) as caught:
        session(port).hand_over(ENVELOPE)
    assert caught.value.trouble is Trouble.REFUSED


def test_session_takes_the_next_address() -> None:
    """Where one does not answer."""
    with scripted_server(*GOOD) as seen:
        server = MailServer("localhost", seen.port, "never")
        made = MailSession(server, ["127.0.0.2", "127.0.0.1"], CONTEXT)
        assert made.hand_over(ENVELOPE).is_accepted


def test_session_needs_tls_where_it_is_required() -> None:
    """No mail, and no command but the first, is said to a server that offers none."""
    with scripted_server(GREETING, EHLO, b"221 bye\r\n") as seen:
        with pytest.raises(MailRefused) as caught:
            session(seen.port, "require").hand_over(ENVELOPE)
    assert caught.value.trouble is Trouble.NO_TLS
    assert seen.connections == [[b"ehlo [127.0.0.1]\r\n"]]


def test_session_says_no_password_openly() -> None:
    """To a server elsewhere that offers no TLS, whoever stands between may have taken that away."""
    with scripted_server(GREETING, AUTH, b"235 ok\r\n") as seen:
        server = MailServer("mail.example.com", seen.port, "try", "u", "hush")
        with pytest.raises(MailRefused) as caught:
            MailSession(server, ["127.0.0.1"], CONTEXT).hand_over(ENVELOPE)
    assert caught.value.trouble is Trouble.NO_TLS
    assert len(seen.connections[0]) == 1


def test_session_logs_in() -> None:
    """Where there is a user."""
    with scripted_server(GREETING, AUTH, b"235 ok\r\n", *GOOD[2:]) as seen:
        assert session(seen.port, user="u", password="hush").hand_over(ENVELOPE).is_accepted
    assert seen.connections[0][1] == b"AUTH PLAIN AHUAaHVzaA==\r\n"


@pytest.mark.parametrize("reply", [b"535 no hush here\r\n", b"454 later\r\n"])
def test_session_that_is_not_let_in_says_nothing_of_the_login(reply: bytes) -> None:
    """What the server says to that may repeat it."""
    with scripted_server(GREETING, AUTH, reply, reply) as seen:
        with pytest.raises(MailRefused) as caught:
            session(seen.port, user="u", password="hush").hand_over(ENVELOPE)
    assert (caught.value.trouble, caught.value.code) == (Trouble.LOGIN, int(reply[:3]))
    assert "hush" not in f"{caught.value}{caught.value.text}{caught.value.__cause__}"


@pytest.mark.parametrize(("said", "then"), [([], "wait"), ([GREETING], "wait"), ([], "drip")])
def test_session_ends_at_once_when_it_is_aborted(said: list[bytes], then: str) -> None:
    """Whatever it waits for, a server that sends a byte at a time included."""
    with scripted_server(*said, then=then) as seen:
        made = session(seen.port)
        errors: list[MailRefused] = []

        def run() -> None:
            with pytest.raises(MailRefused) as caught:
                made.hand_over(ENVELOPE)
            errors.append(caught.value)

        thread = threading.Thread(target=run)
        thread.start()
        assert seen.has_come.wait(5)
        began = time.monotonic()
        made.abort()
        thread.join(5)
        assert time.monotonic() - began < 1
        assert len(errors) == 1
        made.abort()


def test_session_that_was_aborted_does_not_begin() -> None:
    """Its thread may have been late."""
    with scripted_server(*GOOD) as seen:
        made = session(seen.port)
        made.abort()
        with pytest.raises(MailRefused):
            made.hand_over(ENVELOPE)
        assert seen.connections == []
