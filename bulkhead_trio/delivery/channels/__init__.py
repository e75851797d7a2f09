"""Where notifications go: by mail, or posted to a URL."""

from bulkhead_trio.delivery.channels._mail_rules import (
    body_mistake,
    mail_address,
    subject_mistake,
)
from bulkhead_trio.delivery.channels.channel import Channel, Tried
from bulkhead_trio.delivery.channels.channels import ATTEMPT_SECONDS, Channels
from bulkhead_trio.delivery.channels.http import HTTPChannel
from bulkhead_trio.delivery.channels.smtp import (
    MailDrop,
    MailServer,
    SMTPChannel,
    ThreadedMailDrop,
    read_smtp_url,
)

__all__ = [
    "ATTEMPT_SECONDS",
    "Channel",
    "Channels",
    "HTTPChannel",
    "MailDrop",
    "MailServer",
    "SMTPChannel",
    "ThreadedMailDrop",
    "Tried",
    "body_mistake",
    "mail_address",
    "read_smtp_url",
    "subject_mistake",
]
