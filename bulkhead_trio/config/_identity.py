"""What an identity is made of."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from bulkhead_trio.config._urls import mask_all


@attrs.frozen
class IdentitySettings:
    """One identity: a client of an authorization server, and whom its tokens are for.

    Attributes:
        name: ``^[a-z][a-z0-9_-]{0,31}$``.
        token_url: the token endpoint.
        client_id: who asks.
        client_secret: proves it.
        scope: what is asked for; ``""``: the endpoint's default.
        audience: URLs that tokens may be sent to, and to whatever is below them.
    """

    name: str
    token_url: str
    client_id: str
    client_secret: str = attrs.field(repr=False)
    audience: tuple[str, ...]
    scope: str = ""

    def shown(self) -> Iterator[tuple[str, str]]:
        """Each setting and its value as it may be shown."""
        for field in attrs.fields(IdentitySettings):
            if field.name != "name":
                value = getattr(self, field.name)
                text = ",".join(value) if isinstance(value, tuple) else value
                yield field.name, mask_all(text) if field.name == "client_secret" else text
