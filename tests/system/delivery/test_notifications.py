"""Notifications: by mail to a real SMTP server, by HTTP to a real receiver."""

from __future__ import annotations

import json

import pytest

from bulkhead_trio.testing.receiver import Answers, InTurn, ReceiverProcess

from .._problems import assert_problem
from .._server import wait_until
from ._desk import Desk
from ._mail import MailServer
from .conftest import NewDesk, StartDelivering

NOTIFICATIONS = "/api/notifications"
ALL_TRIES_SECONDS = 20.0


async def test_mail_is_what_was_asked_for(desk: Desk, mail: MailServer) -> None:
    """Sender, recipient, subject and text, beyond ASCII too."""
    sent = await desk.notify("smtp", "ann@there.test", "Grüße", "Line 1\n.\nÄnde\n")
    await desk.notification(sent, "delivered")
    (taken,) = mail.to("ann@there.test")
    assert taken.sender == "us@here.test"
    assert taken.recipients == ("ann@there.test",)
    assert taken.subject == "Grüße"
    assert taken.text.rstrip("\n") == "Line 1\n.\nÄnde"
    assert taken.message["Message-ID"]


async def test_mail_that_is_refused_for_now_is_sent_again(desk: Desk, mail: MailServer) -> None:
    """A 4xx of the mail server is tried again, and the mail comes once."""
    mail.refuse_next("451 later")
    sent = await desk.notify("smtp", "bob@there.test")
    await desk.notification(sent, "delivered", timeout=ALL_TRIES_SECONDS)
    assert mail.refusals_left == 0
    assert len(mail.to("bob@there.test")) == 1


async def test_mail_that_is_refused_for_good_is_dead(desk: Desk, mail: MailServer) -> None:
    """A 5xx is the end, after one try."""
    mail.refuse_next("550 no such person")
    sent = await desk.notify("smtp", "nobody@there.test")
    found = await desk.notification(sent, "dead")
    assert len(found["attempts"]) == 1
    assert mail.to("nobody@there.test") == []


@pytest.mark.parametrize(
    ("to", "subject"),
    [
        ("", "s"),
        ("nobody", "s"),
        ("a@b.test\r\nBcc: c@d.test", "s"),
        ("a@b.test", "s\r\nBcc: x@y.z"),
    ],
    ids=["empty", "no address", "two lines", "two lines in the subject"],
)
async def test_mail_that_would_be_more_than_one_is_refused(
    desk: Desk, mail: MailServer, to: str, subject: str
) -> None:
    """400: no header can be smuggled in."""
    before = len(mail.mails())
    document = {"channel": "smtp", "to": to, "subject": subject, "body": "b"}
    assert_problem(await desk.call("POST", NOTIFICATIONS, document), 400, "invalid_body")
    assert len(mail.mails()) == before


async def test_notification_by_http_is_one_request(desk: Desk, receiver: ReceiverProcess) -> None:
    """JSON with subject and body; tried again until it is taken."""
    receiver.behave({1: InTurn(steps=(Answers(status=503), Answers()), is_last_kept=True)})
    sent = await desk.notify("http", receiver.url(1), "Hello", "how are you")
    await desk.notification(sent, "delivered", timeout=ALL_TRIES_SECONDS)
    received = receiver.received(1)
    assert len(received) == 2
    body = json.loads(received[0].body)
    assert body.items() >= {"subject": "Hello", "body": "how are you"}.items()
    assert received[0].body == received[1].body


@pytest.mark.parametrize(
    "document",
    [
        b"{", {}, {"channel": "smtp"},
        {"channel": "pigeon", "to": "a@b.test", "subject": "s", "body": "b"},
        {"channel": "http", "to": "not a url", "subject": "s", "body": "b"},
        {"channel": "http", "to": "file:///etc/passwd", "subject": "s", "body": "b"},
        {"channel": "smtp", "to": 7, "subject": "s", "body": "b"},
    ],
    ids=str,
)  # fmt: skip
async def test_notification_that_makes_no_sense_is_refused(desk: Desk, document: object) -> None:
    """400."""
    assert_problem(await desk.call("POST", NOTIFICATIONS, document), 400, "invalid_body")


async def test_notification_of_another_tenant_is_not_found(
    new_desk: NewDesk, receiver: ReceiverProcess
) -> None:
    """404."""
    ours, theirs = await new_desk(), await new_desk()
    sent = await ours.notify("http", receiver.url(1))
    assert_problem(await theirs.call("GET", f"{NOTIFICATIONS}/{sent}"), 404, "not_found")
    await wait_until(lambda: bool(receiver.arrivals()), "an arrival", timeout=10)


async def test_mail_without_a_mail_server_is_unavailable(
    start_delivering: StartDelivering, receiver: ReceiverProcess
) -> None:
    """503 `channel_unavailable`, while the other channel works."""
    gateway = start_delivering()
    desk = Desk(gateway, await gateway.tenant())
    document = {"channel": "smtp", "to": "ann@there.test", "subject": "s", "body": "b"}
    answer = await desk.call("POST", NOTIFICATIONS, document)
    assert_problem(answer, 503, "channel_unavailable")
    sent = await desk.notify("http", receiver.url(1))
    await desk.notification(sent, "delivered")
