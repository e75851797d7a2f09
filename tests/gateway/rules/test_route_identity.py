"""As whom a route's requests go out: in its document, and in what is made of it."""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead_trio.errors import InvalidBody
from bulkhead_trio.gateway._header_rules import RequestFacts, RequestHeaderRules
from bulkhead_trio.gateway.as_code import read_file
from bulkhead_trio.gateway.identity import authorizer_of
from bulkhead_trio.gateway.saving import read_route
from bulkhead_trio.gateway.spec import read_spec, spec_json
from bulkhead_trio.http.client._audience_rules import Audience
from bulkhead_trio.http.client.identity import NoToken

from .documents import changed, mistakes, read

URL = "https://billing.example.com/v2"
IDENTITIES = {"billing": Audience.of([URL])}


def saved(document: dict[str, Any]) -> Any:
    return read_route(document, check_url=lambda _: None, identities=IDENTITIES)


def refused(document: dict[str, Any]) -> dict[str, str]:
    """What is wrong with a document that is to be saved, by path."""
    with pytest.raises(InvalidBody) as caught:
        saved(document)
    return {each["path"]: each["message"] for each in caught.value.errors}


def test_route_has_an_identity() -> None:
    """Or none, which is not written."""
    spec = read(changed(("identity", "billing")))
    assert spec.identity == "billing"
    assert read_spec(spec_json(spec)) == spec
    assert read(changed()).identity is None
    assert b"identity" not in spec_json(read(changed()))
    assert read(changed(("identity", None))).identity is None


@pytest.mark.parametrize("name", ["", "Billing", "a b", "1a", "a" * 33, 3, ["billing"]])
def test_name_that_no_identity_has_is_refused(name: object) -> None:
    """Configuration knows no such names."""
    assert set(mistakes(changed(("identity", name)))) == {"$.identity"}


@pytest.mark.parametrize("member", ["set", "add"])
def test_route_does_not_say_twice_who_it_is(member: str) -> None:
    """Only one of both could be meant."""
    place = f"transform.request.headers.{member}"
    document = changed(("identity", "billing"), (place, {"AUTHORIZATION": "Basic x"}))
    assert mistakes(document) == {f"$.{place}.AUTHORIZATION": "is what the route's identity says"}
    del document["identity"]
    assert mistakes(document) == {}


def test_route_with_an_unknown_identity_is_not_saved() -> None:
    """Nor one from a file."""
    there = {"upstreams": [{"url": f"{URL}/x"}]}
    assert saved(changed(*there.items(), ("identity", "billing"))).identity == "billing"
    assert refused(changed(*there.items(), ("identity", "other"))) == {
        "$.identity": "is the name of no identity that is configured"
    }
    text = f"""
        [tenants.acme]
        tier = "free"
        [[tenants.acme.routes]]
        path = "/"
        identity = "billing"
        upstreams = [{{ url = "{URL}" }}]
    """
    read_file(text, tiers=["free"], check_url=lambda _: None, identities=IDENTITIES)
    with pytest.raises(InvalidBody) as caught:
        read_file(text, tiers=["free"], check_url=lambda _: None)
    assert [each["path"] for each in caught.value.errors] == ["$.tenants.acme.routes[0].identity"]


def test_route_to_where_no_token_may_go_is_not_saved() -> None:
    """Each upstream, and the fallback's."""
    document = changed(
        ("identity", "billing"),
        ("upstreams", [{"url": URL}, {"url": "https://billing.example.com/v20"}]),
        ("resilience.fallback", {"enabled": True, "upstream": "https://evil.example"}),
    )
    said = "is nothing that tokens of the identity billing may be sent to"
    assert refused(document) == {
        "$.upstreams[1].url": said,
        "$.resilience.fallback.upstream": said,
    }


def test_callers_authorization_is_not_passed_on() -> None:
    """Where the route says who is asking; otherwise it is."""
    facts = RequestFacts(peer="", scheme="http", request_id="r", parent_id=1)
    headers = [(b"authorization", b"Bearer caller"), (b"accept", b"*/*")]
    for says_who in (True, False):
        sent = dict(RequestHeaderRules(says_who=says_who).apply(headers, facts))
        assert (b"authorization" in sent) is not says_who
        assert sent[b"accept"] == b"*/*"


async def test_identity_that_is_gone_refuses_every_request() -> None:
    """A route that was saved with it does not go out as nobody."""
    assert authorizer_of(None, {}) is None
    missing = authorizer_of("billing", {})
    assert missing is not None
    for ask in (missing.ready, lambda: missing.authorization(URL)):
        with pytest.raises(NoToken, match="no identity billing"):
            await ask()
    missing.refused(b"Bearer x")
