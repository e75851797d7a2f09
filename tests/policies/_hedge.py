"""Work that follows a script, a different one for each try."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio


class Failed(Exception):
    """What a try of a script ends with."""


@attrs.frozen
class Try:
    """A try that takes ``seconds`` and then raises ``error``, if it has one."""

    seconds: float
    error: Exception | None = None


class Script:
    """Work whose first run is the first try, and so on; the result is the number of the try."""

    def __init__(self, *tries: Try) -> None:
        self.tries: Sequence[Try] = tries
        self.began: list[float] = []
        self.cut_off: list[int] = []
        self.running = 0

    async def __call__(self) -> int:
        number = len(self.began)
        self.began.append(trio.current_time())
        self.running += 1
        try:
            await trio.sleep(self.tries[number].seconds)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.001)  # cleaning up takes time
            self.cut_off.append(number)
            raise
        finally:
            self.running -= 1
        error = self.tries[number].error
        if error is not None:
            raise error
        return number
