"""A notification as a mail, as a mail reader reads it."""

from __future__ import annotations

import datetime
import email
import email.policy
import re
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.delivery.channels.mail_session import Envelope
from bulkhead_trio.delivery.channels.message import envelope_of

AT = datetime.datetime(2026, 2, 11, 12, 0, tzinfo=datetime.UTC)


def made(subject: str = "hello", body: str = "text", to: str = "ann@example.com") -> Envelope:
    return envelope_of(
        "ntf_00ff",
        sender="alerts@shop.example",
        recipient=to,
        subject=subject,
        body=body,
        created_at=AT,
    )


def read(envelope: Envelope) -> EmailMessage:
    message = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_mail_says_who_to_whom_and_when() -> None:
    """Its id is the notification's; its time is when that was accepted."""
    envelope = made()
    message = read(envelope)
    assert (envelope.sender, envelope.recipient) == ("alerts@shop.example", "ann@example.com")
    assert dict(message.items()) == {
        "From": "alerts@shop.example",
        "To": "ann@example.com",
        "Subject": "hello",
        "Date": "Wed, 11 Feb 2026 12:00:00 +0000",
        "Message-ID": "<ntf_00ff@shop.example>",
        "Auto-Submitted": "auto-generated",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "7bit",
        "MIME-Version": "1.0",
    }
    assert message.get_content() == "text\r\n"


def test_mail_is_the_same_each_time() -> None:
    """Byte for byte: whoever gets it twice can tell."""
    assert made("Grüße", "größer 🎉" * 50).content == made("Grüße", "größer 🎉" * 50).content


@given(
    subject=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=200),
    body=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300),
)
def test_mail_is_read_as_it_was_written(subject: str, body: str) -> None:
    """Any text; in lines that every server takes, of ASCII only, with no line end but CRLF."""
    envelope = made(subject, body)
    message = read(envelope)
    assert message["Subject"] == subject
    lines = re.split("\r\n|\r|\n", body)
    assert message.get_content().split("\r\n") in ([*lines, ""], lines)  # its last line is whole
    assert envelope.content.isascii()
    assert envelope.content.replace(b"\r\n", b"").count(b"\n") == 0
    assert envelope.content.replace(b"\r\n", b"").count(b"\r") == 0
    assert max(map(len, envelope.content.split(b"\r\n"))) <= 998
    head = envelope.content.partition(b"\r\n\r\n")[0]
    assert head.count(b"\r\nSubject:") == 1


@pytest.mark.parametrize(
    ("subject", "body", "to"),
    [
        ("a\r\nBcc: bob@example.com", "b", "ann@example.com"),
        ("a", "b\0", "ann@example.com"),
        ("a", "b", "ann@example.com\r\nBcc: bob@example.com"),
    ],
)
def test_mail_with_another_header_in_it_is_refused(subject: str, body: str, to: str) -> None:
    """Nothing of a notification ends a line of the head."""
    with pytest.raises(ValueError, match="must"):
        made(subject, body, to)


def test_recipient_abroad_is_told_in_ascii() -> None:
    """In the envelope and in the head."""
    envelope = made(to="ann@bücher.example")
    assert envelope.recipient == "ann@xn--bcher-kva.example"
    assert read(envelope)["To"] == "ann@xn--bcher-kva.example"
