"""As whom a route's requests go to its upstreams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, Protocol, TypeAlias

from bulkhead_trio.http.client.identity import NoToken


class Authorizer(Protocol):
    """Says who a request is of; `bulkhead_trio.http.client.identity.Identity` does."""

    async def ready(self) -> None:
        """Have what to say at hand; to be asked before an upstream is chosen.

        Raises:
            NoToken: there is nothing to be had.
        """

    async def authorization(self, url: str) -> bytes:
        """The value of ``Authorization`` for a request to ``url``.

        Raises:
            NoToken: there is none to be had, or none may be sent there.
        """

    def refused(self, authorization: bytes) -> None:
        """An upstream has answered 401 to this."""


Authorizers: TypeAlias = Mapping[str, Authorizer]


def authorizer_of(name: str | None, identities: Authorizers) -> Authorizer | None:
    """What a route with an identity uses; ``None`` for one without.

    An identity that was taken out of the configuration after the route was saved refuses every
    request: going out as nobody instead would be something else than was asked for.
    """
    return None if name is None else identities.get(name, _Missing(name))


class _Missing:
    def __init__(self, name: str) -> None:
        self._name = name

    async def ready(self) -> None:
        self._refuse()

    async def authorization(self, url: str) -> bytes:  # noqa: ARG002
        self._refuse()

    def refused(self, authorization: bytes) -> None:  # noqa: ARG002
        return

    def _refuse(self) -> NoReturn:
        raise NoToken(f"there is no identity {self._name} in the configuration")
