"""What one instance leaves for the others of a key that it has looked up, as bytes. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from bulkhead_trio.database.tenant_records import FoundKey

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(FoundKey)


def pack(found: FoundKey) -> bytes:
    """The bytes for ``found``."""
    return _ENCODER.encode(found)


def unpack(value: bytes) -> FoundKey | None:
    """What `pack` made ``value`` of; ``None`` where that was another release's."""
    try:
        return _DECODER.decode(value)
    except msgspec.DecodeError:
        return None
