"""As whom a request goes out: the header with a token, for URLs that may see it and no others."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import trio

from bulkhead_trio.errors import DeadlineExceeded, NoUpstream, Rejected, UpstreamError
from bulkhead_trio.http.client._audience_rules import Audience
from bulkhead_trio.http.client.oauth2 import TokenSource, TokenSourceStatistics

_BEARER: Final = b"Bearer "

REMEMBERED_URLS: Final = 1024
"""Of an identity, with whether its tokens may go there."""


class NoToken(NoUpstream):
    """A request has to go out as somebody, and there is no token for that; nothing was sent."""


class Identity:
    """A token source, and whom its tokens are for.

    Args:
        source: gives tokens.
        audience: the URLs that they may be sent to.

    Attributes:
        name: of the identity.
        audience: the same.
    """

    def __init__(self, source: TokenSource, audience: Audience) -> None:
        self.name = source.name
        self.audience = audience
        self._source = source
        # Taking a URL apart is most of what a request would pay, and routes have few of them.
        self._is_covered = functools.lru_cache(REMEMBERED_URLS)(audience.covers)

    def covers(self, url: str) -> bool:
        """Whether its tokens may be sent to ``url``."""
        return self._is_covered(url)

    async def ready(self) -> None:
        """Have a token at hand, so that `authorization` does not wait.

        To be asked before an upstream is chosen: that there is no token is none of its failures.

        Raises:
            NoToken: there is none to be had.
        """
        if self._source.token_nowait() is None:
            await self._token()

    async def authorization(self, url: str) -> bytes:
        """The value of ``Authorization`` for a request to ``url``; no checkpoint while at hand.

        Raises:
            NoToken: there is none to be had, or none may be sent there.
        """
        if not self._is_covered(url):
            raise NoToken(f"the identity {self.name} is not for where this request goes")
        value = self._source.token_nowait()
        if value is None:
            value = await self._token()
        return _BEARER + value.encode("ascii")

    def refused(self, authorization: bytes) -> None:
        """An upstream has answered 401 to this; with the next request goes another, if it may."""
        if authorization.startswith(_BEARER):
            self._source.refused(authorization[len(_BEARER) :].decode("ascii"))

    async def _token(self) -> str:
        try:
            return await self._source.token()
        except (UpstreamError, Rejected, DeadlineExceeded) as error:
            raise NoToken(f"no token for {self.name}: {error.message}") from error

    def statistics(self) -> TokenSourceStatistics:
        """What its source has now."""
        return self._source.statistics()


class Identities(Mapping[str, Identity]):
    """All identities by name; they ask for tokens as long as `run` runs.

    Args:
        sources: of tokens, their names differing, each with whom its tokens are for.
    """

    def __init__(self, sources: Sequence[tuple[TokenSource, Audience]] = ()) -> None:
        self._sources = [source for source, _ in sources]
        self._identities = {source.name: Identity(source, audience) for source, audience in sources}

    def __getitem__(self, name: str) -> Identity:
        return self._identities[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._identities)

    def __len__(self) -> int:
        return len(self._identities)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask for tokens whenever one is wanted, until cancelled."""
        async with trio.open_nursery() as nursery:
            for source in self._sources:
                await nursery.start(source.run)
            task_status.started()
            await trio.sleep_forever()
