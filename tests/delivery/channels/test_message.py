"""A notification as a mail, as a mail reader reads it."""

from __future__ import annotations

import base64
import datetime
import email
import email.policy
import quopri
import re
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.delivery.channels.mail_session import Envelope
from bulkhead_trio.delivery.channels.message import check_head, envelope_of

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


INJECTED = "hi\r\nFrom: ceo@bank.example\r\n\r\nphish"

ENCODED_WORDS = st.builds(
    lambda text, way, around: around.replace("*", way(text.encode())),
    st.just(INJECTED) | st.text(max_size=40),
    st.sampled_from(
        [
            lambda data: f"=?utf-8?b?{base64.b64encode(data).decode()}?=",
            lambda data: "=?UTF-8?Q?" + "".join(f"={each:02X}" for each in data) + "?=",
            lambda data: f"=?iso-8859-1?q?{quopri.encodestring(data, header=True).decode()}?=",
        ]
    ),
    st.sampled_from(["*", "a * b", "*=?utf-8?q?=0d=0a?=", " *", "=?*", "*" + "x" * 90]),
)
SUBJECTS = st.one_of(
    ENCODED_WORDS,
    st.text(st.characters(codec="utf-8"), max_size=300),
    st.text("=?utf-8bq_0daF: \t", max_size=120),
).filter(lambda text: text.isprintable() and len(text) <= 998)


@given(subject=SUBJECTS)
def test_subject_is_shown_as_it_was_given_and_changes_no_other_header(subject: str) -> None:
    """Literally, be it an encoded word, a line of blanks, or a thousand characters."""
    envelope = made(subject)
    told, plain = read(envelope), read(made("hello"))
    assert told["Subject"] == subject
    assert told.keys() == plain.keys()
    assert [each for each in told.items() if each[0] != "Subject"] == [
        each for each in plain.items() if each[0] != "Subject"
    ]
    assert told.get_content() == "text\r\n"
    head = envelope.content.partition(b"\r\n\r\n")[0]
    assert max(map(len, head.split(b"\r\n"))) <= 78


@pytest.mark.parametrize(
    "subject",
    [
        "=?utf-8?q?hi=0d=0aFrom:_ceo@bank.example=0d=0a=0d=0aphish?=",
        f"=?utf-8?b?{base64.b64encode(INJECTED.encode()).decode()}?=",
        "=?utf-8?q?=00?=",
        " two  blanks ",
        "",
        "x" * 998,
        "ü" * 998,
    ],
)
def test_subject_that_looks_like_something_else_is_text(subject: str) -> None:
    """What is written as an encoded word is no other's way to write a line of the head."""
    message = read(made(subject))
    assert message["Subject"] == subject
    assert message["From"] == "alerts@shop.example"
    assert message.get_content() == "text\r\n"


def test_address_that_is_an_encoded_word_is_refused() -> None:
    """Programs decode them there too, whatever RFC 2047 says of that."""
    with pytest.raises(ValueError, match="before its @"):
        made(to="=?utf-8?q?a=0d=0aBcc=3a_x=40y.de?=@example.com")


HEAD = made().content


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (b"Subject: hello", b"Subject: hello\r\nBcc: bob@example.com"),
        (b"Subject: hello", b"Subject: hello\r\nFrom: bob@example.com"),
        (b"Subject: hello", b"Subject: hello\nBcc: bob@example.com"),
        (b"Subject: hello", b"Subject: hello\rBcc: bob@example.com"),
        (b"Subject: hello", b"Subject: hello\r\n\r\nphish"),
        (b"Subject: hello", b"Subject: hello\r\nBcc"),
        (b"Subject: hello", "Subject: größer".encode()),
        (b"Subject: hello", b"Subject: a\0b"),
        (b"Subject: hello\r\n", b""),
        (b"From: ", b" From: "),
    ],
)
def test_head_that_is_not_what_was_set_is_refused(there: bytes, instead: bytes) -> None:
    """Whatever has made it so: each header once, no other, and no line end but CRLF."""
    check_head(HEAD)
    assert there in HEAD
    with pytest.raises(ValueError, match="head"):
        check_head(HEAD.replace(there, instead, 1))


def test_recipient_abroad_is_told_in_ascii() -> None:
    """In the envelope and in the head."""
    envelope = made(to="ann@bücher.example")
    assert envelope.recipient == "ann@xn--bcher-kva.example"
    assert read(envelope)["To"] == "ann@xn--bcher-kva.example"
