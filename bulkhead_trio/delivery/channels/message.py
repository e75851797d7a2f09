"""A notification as a mail: the same bytes for each try."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from bulkhead_trio.delivery.channels._mail_rules import (
    body_mistake,
    mail_address,
    subject_field,
    subject_mistake,
)
from bulkhead_trio.delivery.channels.mail_session import Envelope

_POLICY: Final = SMTP.clone(cte_type="7bit")
"""What is not ASCII is encoded: a server need not take anything else."""

HEADERS: Final = (
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted",
    "Content-Type", "Content-Transfer-Encoding", "MIME-Version",
)  # fmt: skip
"""All that a mail has, each once; the last three are of its body."""

_LINE: Final = re.compile(rb"[\x20-\x7e]*")


def envelope_of(
    public_id: str,
    *,
    sender: str,
    recipient: str,
    subject: str,
    body: str,
    created_at: datetime.datetime,
) -> Envelope:
    """A mail, ready to be handed over.

    Nothing in it depends on when it is sent. ``Message-ID`` is made of the notification's id, so
    that whoever has had it before can tell; ``Date`` is when it was accepted.

    Args:
        public_id: of the notification.
        sender: its address, alone.
        recipient: one address.
        subject: any text on one line.
        body: any text.
        created_at: in UTC.

    Raises:
        ValueError: one of them is nothing that a mail can have.
    """
    from_local, from_host = mail_address(sender)
    to_local, to_host = mail_address(recipient)
    for name, wrong in (("subject", subject_mistake(subject)), ("body", body_mistake(body))):
        if wrong is not None:
            raise ValueError(f"the {name} {wrong}")
    # Written here and not by `email`: that decodes what looks encoded, and writes what comes out,
    # line ends too, as it is.
    fields = {
        "From": f"{from_local}@{from_host}",
        "To": f"{to_local}@{to_host}",
        "Subject": subject_field(subject),
        "Date": format_datetime(created_at.astimezone(datetime.UTC)),
        "Message-ID": f"<{public_id}@{from_host}>",
        # RFC 3834: nobody's absence note is to answer this.
        "Auto-Submitted": "auto-generated",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode("ascii")
    text = EmailMessage(policy=_POLICY)
    text.set_content(body, charset="utf-8")
    content = head + text.as_bytes()
    check_head(content)
    return Envelope(fields["From"], fields["To"], content)


def check_head(content: bytes) -> None:
    """Look at a finished mail as a reader does: its head is what was set, and nothing else.

    Raises:
        ValueError: a header is not there once, there is another, or a line is no line.
    """
    head, _, _ = content.partition(b"\r\n\r\n")
    names = Counter[str]()
    for line in head.split(b"\r\n"):
        if _LINE.fullmatch(line) is None:
            raise ValueError("the head has a character that ends a line or is not ASCII")
        if not line.startswith(b" ") or not names:
            names[line.partition(b":")[0].decode("ascii")] += 1
    if names != Counter(HEADERS):
        raise ValueError("the head has other headers than those that were set")
