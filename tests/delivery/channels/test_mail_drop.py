"""Mail handed over in threads: to a real mail server, and to those that misbehave."""

from __future__ import annotations

import email
import email.policy
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from bulkhead_trio.database.work_records import NotificationWork
from bulkhead_trio.delivery._schedule_rules import RetrySchedule
from bulkhead_trio.delivery.channels import (
    Channels,
    SMTPChannel,
    ThreadedMailDrop,
    read_smtp_url,
)
from bulkhead_trio.delivery.channels._mail_rules import MailRefused, Trouble
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

from ._mail import ENVELOPE, GOOD, GREETING, NOTIFICATION_ID, scripted_server, told, work


@attrs.define
class MailBox:
    """A real mail server's other side.

    Attributes:
        port: where it listens.
        replies: what is said of the next messages; then they are taken.
        received: those that were taken.
        encrypted: of each, whether it came over TLS.
        logins: users that were let in.
    """

    port: int = 0
    replies: list[str] = attrs.field(factory=list)
    received: list[Envelope] = attrs.field(factory=list)
    encrypted: list[bool] = attrs.field(factory=list)
    logins: list[str] = attrs.field(factory=list)

    async def handle_DATA(self, server: Any, _session: Any, envelope: Envelope) -> str:
        if self.replies:
            return self.replies.pop(0)
        self.received.append(envelope)
        self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        return "250 taken"

    def authenticate(self, *facts: Any) -> AuthResult:
        data = facts[-1]
        assert isinstance(data, LoginPassword)
        is_right = (data.login, data.password) == (b"user", b"p@ss:w/rd")
        if is_right:
            self.logins.append(data.login.decode())
        return AuthResult(success=is_right)


class FreePort(Controller):
    """A controller that knows which port it was given."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def mail_box(**options: Any) -> Iterator[MailBox]:
    """Listens on a free port, in a thread of its own."""
    box = MailBox()
    options["authenticator"] = box.authenticate
    controller = FreePort(box, hostname="127.0.0.1", port=0, **options)
    controller.start()
    try:
        box.port = controller.port
        yield box
    finally:
        controller.stop()


HANG_SECONDS = 120.0
"""After which a test gives up: one that hangs, and none that is slow on a busy machine."""

AUTHORITY = trustme.CA()


def server_tls(name: str = "localhost") -> ssl.SSLContext:
    """A server with a certificate of the tests' authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert(name).configure_cert(context)
    return context


def trusting() -> ssl.SSLContext:
    """Trusts the tests' authority."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


async def here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def drop_to(url: str, parallel: int = 2) -> ThreadedMailDrop:
    return ThreadedMailDrop(
        read_smtp_url(url), parallel=parallel, resolve=here, tls_context=trusting()
    )


def channels_over(drop: ThreadedMailDrop) -> Channels:
    channel = SMTPChannel(drop, sender="alerts@shop.example")
    return Channels({"smtp": channel}, schedule=RetrySchedule(), random=lambda: 0.0)


async def sent(drop: ThreadedMailDrop, item: NotificationWork | None = None) -> Any:
    with trio.fail_after(HANG_SECONDS):
        return told(await channels_over(drop).send(item or work()))


async def at_rest(drop: ThreadedMailDrop) -> None:
    """Wait until no thread of the drop is left, which is a moment."""
    with trio.fail_after(HANG_SECONDS):
        while drop.statistics().active or drop.statistics().abandoned:
            await trio.sleep(0.002)


# --- a real server -------------------------------------------------------------------------------


async def test_notification_arrives_as_mail() -> None:
    """With its subject and text, from whom it should be, and with the id that tells it apart."""
    with mail_box() as box:
        drop = drop_to(f"smtp://localhost:{box.port}")
        assert await sent(drop) == ("delivered", 250, None)
        await at_rest(drop)
    (envelope,) = box.received
    assert (envelope.mail_from, envelope.rcpt_tos) == ("alerts@shop.example", ["ann@example.com"])
    assert isinstance(envelope.content, bytes)
    message = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert message["Subject"] == "Grüße"
    assert message.get_content().strip() == "hello, 世界"  # type: ignore[attr-defined]
    assert message["Message-ID"] == f"<{NOTIFICATION_ID}@shop.example>"


async def test_notification_is_tried_again_with_the_same_bytes() -> None:
    """A 4xx passes; whoever got it twice could tell."""
    with mail_box() as box:
        drop = drop_to(f"smtp://localhost:{box.port}")
        box.replies = ["451 later", "421 busy"]
        assert await sent(drop) == ("delivered", 250, None)
        assert await sent(drop) == ("delivered", 250, None)
        first, second = box.received
        assert first.content == second.content


async def test_notification_that_is_refused_is_dead() -> None:
    """A 5xx would come again."""
    with mail_box() as box:
        drop = drop_to(f"smtp://localhost:{box.port}")
        box.replies = ["554 spam"]
        assert await sent(drop) == ("dead", 554, "the mail server answered 554")
        assert box.received == []


async def test_mail_is_encrypted_where_the_server_offers_it() -> None:
    """And where it is required."""
    with mail_box(tls_context=server_tls()) as box:
        for option in ("", "?starttls=require"):
            drop = drop_to(f"smtp://localhost:{box.port}{option}")
            assert await sent(drop) == ("delivered", 250, None)
        assert await sent(drop_to(f"smtp://localhost:{box.port}?starttls=never")) == (
            "delivered", 250, None,
        )  # fmt: skip
        assert box.encrypted == [True, True, False]


async def test_mail_is_encrypted_from_the_beginning() -> None:
    """With ``smtps``."""
    with mail_box(ssl_context=server_tls()) as box:
        assert await sent(drop_to(f"smtps://localhost:{box.port}")) == ("delivered", 250, None)
        assert box.encrypted == [True]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_certificate_is_verified(scheme: str) -> None:
    """Of whichever kind the TLS is: a server with another's name gets nothing."""
    option = "tls_context" if scheme == "smtp" else "ssl_context"
    with mail_box(**{option: server_tls("mail.example.com")}) as box:
        drop = drop_to(f"{scheme}://localhost:{box.port}")
        with pytest.raises(MailRefused) as caught:
            await drop.hand_over(ENVELOPE, seconds=5)
        assert caught.value.trouble is Trouble.CERTIFICATE
        assert box.received == []


async def test_user_logs_in() -> None:
    """With a password that is nothing for a URL as it is; after TLS."""
    with mail_box(tls_context=server_tls(), auth_required=True) as box:
        url = f"smtp://user:p%40ss%3Aw%2Frd@localhost:{box.port}"
        assert await sent(drop_to(url)) == ("delivered", 250, None)
        assert (box.logins, box.encrypted) == (["user"], [True])


async def test_wrong_password_is_no_fault_of_the_message() -> None:
    """It is kept for later, and not said again at once: accounts are locked for less."""
    no = b"535 no\r\n"
    with scripted_server(GREETING, b"250-here\r\n250 AUTH PLAIN\r\n", no) as seen:
        drop = drop_to(f"smtp://user:wrong@localhost:{seen.port}")
        assert await sent(drop) == ("retry", 535, Trouble.LOGIN.value)
        assert len(seen.connections) == 1


# --- servers that misbehave ----------------------------------------------------------------------


@pytest.mark.parametrize("then", ["wait", "drip"])
async def test_slow_server_is_left_in_time(then: str) -> None:
    """And its thread ends with that, be it for ever in the middle of a word."""
    with scripted_server(GREETING, then=then) as seen:
        drop = drop_to(f"smtp://localhost:{seen.port}")
        with pytest.raises(MailRefused) as caught:
            await drop.hand_over(ENVELOPE, seconds=0.1)
        assert caught.value.trouble is Trouble.TIMEOUT
        await at_rest(drop)


async def test_message_that_was_taken_is_not_sent_again_for_want_of_a_goodbye() -> None:
    """The time is up while the server takes its leave."""
    with scripted_server(*GOOD[:6], then="wait") as seen:
        drop = drop_to(f"smtp://localhost:{seen.port}")
        assert (await drop.hand_over(ENVELOPE, seconds=0.8)).is_accepted
        await at_rest(drop)


async def test_server_that_goes_in_the_middle_is_asked_again() -> None:
    """Four times in all; then by the schedule."""
    with scripted_server(*GOOD[:5]) as seen:
        drop = drop_to(f"smtp://localhost:{seen.port}")
        assert await sent(drop) == ("retry", None, Trouble.BROKEN_OFF.value)
        assert len(seen.connections) == 4
        await at_rest(drop)


async def test_cancelled_caller_leaves_at_once() -> None:
    """Its thread follows, and holds its place until it has."""
    with scripted_server(GREETING, then="wait") as seen:
        drop = drop_to(f"smtp://localhost:{seen.port}", parallel=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(drop.hand_over, ENVELOPE, seconds=30))
            assert await trio.to_thread.run_sync(seen.has_come.wait, 5)
            nursery.cancel_scope.cancel()
        await at_rest(drop)
        assert drop.statistics().abandoned_ever == 1


async def test_threads_are_bounded() -> None:
    """More messages than places wait for one."""
    with mail_box() as box:
        drop = drop_to(f"smtp://localhost:{box.port}", parallel=2)
        most = 0

        async def one() -> None:
            nonlocal most
            await drop.hand_over(ENVELOPE, seconds=10)
            most = max(most, drop.statistics().active)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
        assert len(box.received) == 10
        assert most <= 2
        await at_rest(drop)


async def test_hand_over_is_cancelled_anywhere() -> None:
    """No thread, place or connection is left."""
    with mail_box() as box:

        async def scenario(point: CancellationPoint) -> None:
            drop = drop_to(f"smtp://localhost:{box.port}")
            with point:
                assert (await drop.hand_over(ENVELOPE, seconds=10)).is_accepted
            await at_rest(drop)

        assert await sweep_cancellations(scenario) >= 2


async def test_name_that_leads_nowhere_is_told() -> None:
    """As what it is."""

    async def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    server = read_smtp_url("smtp://nowhere.example")
    drop = ThreadedMailDrop(server, parallel=1, resolve=nowhere, tls_context=trusting())
    assert await sent(drop) == ("retry", None, Trouble.NO_HOST.value)
