"""What the parts of the route document have in common."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from bulkhead_trio.gateway import _document_rules as rules
from bulkhead_trio.gateway._reading_rules import says

Milliseconds: TypeAlias = Annotated[int, Meta(ge=1, le=3_600_000)]
"""Up to an hour."""

URL: TypeAlias = Annotated[str, Meta(max_length=rules.LONGEST_URL), says(rules.url_mistake)]


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A part of the document."""
