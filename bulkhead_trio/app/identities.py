"""Settings become identities: as whom requests may go out, and what gets their tokens."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from bulkhead_trio.config import IdentitySettings, Settings
from bulkhead_trio.delivery.sealing import Sealer, Unsealable
from bulkhead_trio.http.client import ClientLimits, HTTPClient
from bulkhead_trio.http.client._audience_rules import Audience
from bulkhead_trio.http.client._token_rules import ClientCredentials
from bulkhead_trio.http.client.identity import Identities
from bulkhead_trio.http.client.oauth2 import TokenSource
from bulkhead_trio.state import Shared
from bulkhead_trio.state.tokens import RedisTokenCache

PURPOSE = "identity tokens"


@asynccontextmanager
async def open_identities(
    settings: Settings, secret_key: str, shared: Shared | None
) -> AsyncIterator[Identities]:
    """All that are configured; they ask for tokens while the block lasts.

    Args:
        settings: those of this process.
        secret_key: of the server; what instances share is sealed with it.
        shared: what they have in common; ``None`` for one that is alone.
    """
    sealer = Sealer(secret_key, purpose=PURPOSE)
    # Token endpoints are the operator's, who may have one in the house: unlike tenants' upstreams.
    async with HTTPClient(ClientLimits()) as client, trio.open_nursery() as nursery:
        identities = Identities(
            [
                (_source(each, client, sealer, shared), Audience.of(each.audience))
                for each in settings.identities
            ]
        )
        await nursery.start(identities.run)
        yield identities
        nursery.cancel_scope.cancel()


def _source(
    settings: IdentitySettings, client: HTTPClient, sealer: Sealer, shared: Shared | None
) -> TokenSource:
    credentials = ClientCredentials(
        settings.token_url,
        settings.client_id,
        settings.client_secret,
        settings.scope,
        settings.audience,
    )
    cache = None if shared is None else _cache(settings, sealer, shared)
    return TokenSource(settings.name, credentials, client, cache=cache)


def _cache(settings: IdentitySettings, sealer: Sealer, shared: Shared) -> RedisTokenCache:
    about = "\n".join((settings.token_url, settings.client_id, settings.scope))
    bound_to = uuid.uuid5(uuid.NAMESPACE_URL, f"{settings.name}\n{about}")

    def unseal(sealed: bytes) -> bytes | None:
        try:
            return sealer.unseal(sealed, bound_to=bound_to)
        except Unsealable:
            return None  # of an instance with another secret key

    return RedisTokenCache(
        shared.state,
        settings.name,
        about=about,
        seal=lambda plain: sealer.seal(plain, bound_to=bound_to),
        unseal=unseal,
    )
