"""A notification as a mail: the same bytes for each try."""

from __future__ import annotations

import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from bulkhead_trio.delivery.channels._mail_rules import (
    body_mistake,
    mail_address,
    subject_mistake,
)
from bulkhead_trio.delivery.channels.mail_session import Envelope

_POLICY: Final = SMTP.clone(cte_type="7bit")
"""What is not ASCII is encoded: a server need not take anything else."""


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
    message = EmailMessage(policy=_POLICY)
    message["From"] = Address(username=from_local, domain=from_host)
    message["To"] = Address(username=to_local, domain=to_host)
    message["Subject"] = subject
    message["Date"] = format_datetime(created_at.astimezone(datetime.UTC))
    message["Message-ID"] = f"<{public_id}@{from_host}>"
    # RFC 3834: nobody's absence note is to answer this.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body, charset="utf-8")
    return Envelope(f"{from_local}@{from_host}", f"{to_local}@{to_host}", message.as_bytes())
