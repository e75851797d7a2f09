"""As whom a request goes out, and where to."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import CircuitOpen
from bulkhead_trio.http.client._audience_rules import Audience
from bulkhead_trio.http.client.identity import Identities, Identity, NoToken
from bulkhead_trio.http.client.oauth2 import TokenRefused
from bulkhead_trio.testing.upstream import Answer

from ._tokens import desk, token_answer

API = Audience.of(["https://api.example.com/v1"])


async def test_token_is_said_to_its_audience_only(autojump_clock: MockClock) -> None:
    """To others not even asked for."""
    async with desk(token_answer()) as there:
        identity = Identity(there.source(), API)
        with pytest.raises(NoToken, match="not for where"):
            await identity.authorization("https://api.example.com/v2")
        assert there.asked == 0
        assert await identity.authorization("https://api.example.com/v1/users") == b"Bearer one"


async def test_token_at_hand_costs_no_checkpoint(autojump_clock: MockClock) -> None:
    """Once it is ready."""
    async with desk(token_answer(head_seconds=1)) as there:
        identity = Identity(there.source(), API)
        await identity.ready()
        with trio.CancelScope() as scope:
            scope.cancel()
            assert await identity.authorization("https://api.example.com/v1") == b"Bearer one"
            await identity.ready()
        assert not scope.cancelled_caught


async def test_identity_without_a_token_says_so(autojump_clock: MockClock) -> None:
    """Whatever the reason, which is kept as the cause; the message names no address."""
    async with desk(Answer(status=401)) as there:
        identity = Identity(there.source(), API)
        causes = []
        for _ in range(6):
            with pytest.raises(NoToken) as caught:
                await identity.ready()
            causes.append(type(caught.value.__cause__))
            assert "127.0.0.1" not in caught.value.message
        assert causes == [TokenRefused] * 5 + [CircuitOpen]
        with pytest.raises(NoToken):
            await identity.authorization("https://api.example.com/v1")


async def test_refused_header_has_another_token_asked_for(autojump_clock: MockClock) -> None:
    """What is no token of ours changes nothing."""
    async with desk(token_answer("one"), token_answer("two")) as there:
        identity = Identity(there.source(), API)
        first = await identity.authorization("https://api.example.com/v1")
        identity.refused(b"Basic abc")
        identity.refused(b"Bearer other")
        assert await identity.authorization("https://api.example.com/v1") == first
        identity.refused(first)
        assert await identity.authorization("https://api.example.com/v1") == b"Bearer two"


async def test_identities_are_known_by_name(autojump_clock: MockClock) -> None:
    """And ask in the background, all of them, until cancelled."""
    async with desk(token_answer("one", 600), token_answer("two", 600)) as there:
        identities = Identities([(there.source(), API)])
        assert (list(identities), len(identities)) == (["billing"], 1)
        await there.nursery.start(identities.run)
        identity = identities["billing"]
        await identity.ready()
        await trio.sleep(515)
        await identity.ready()
        await trio.sleep(1)
        assert await identity.authorization("https://api.example.com/v1") == b"Bearer two"
        assert identity.statistics().obtained == 2
