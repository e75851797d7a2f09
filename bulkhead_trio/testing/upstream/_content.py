"""Bodies: bytes that can be told apart at every place, and how they are cut into pieces."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

PIECE_BYTES = 65_536
_BLOCK_BYTES = 65_536


def generated_blocks(size: int) -> Iterator[bytes]:
    """``size`` bytes of noise, the same each time: none can be lost, doubled or moved unnoticed."""
    noise = random.Random(size)  # noqa: S311  noise, not a secret
    left = size
    while left:
        block = noise.randbytes(min(left, _BLOCK_BYTES))
        left -= len(block)
        yield block


def generated_digest(size: int) -> str:
    """The SHA-256 of `generated_blocks` of that size, in hexadecimal."""
    digest = hashlib.sha256()
    for block in generated_blocks(size):
        digest.update(block)
    return digest.hexdigest()


def in_pieces(blocks: Iterator[bytes], most: int, *, is_varied: bool = False) -> Iterator[bytes]:
    """The same bytes in pieces of ``most`` bytes, or with ``is_varied`` of 1 to ``most``.

    The sizes of varied pieces are the same each time.
    """
    draw = random.Random(most)  # noqa: S311  any numbers will do, if they are always the same
    wanted = draw.randint(1, most) if is_varied else most
    held = bytearray()
    for block in blocks:
        held += block
        start = 0
        while len(held) - start >= wanted:
            yield bytes(held[start : start + wanted])
            start += wanted
            wanted = draw.randint(1, most) if is_varied else most
        del held[:start]
    if held:
        yield bytes(held)
