"""The page at ``/docs``: complete, readable by everybody, and loading nothing."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Sequence
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.api._docs_page import docs_page
from bulkhead_trio.api._openapi import openapi_document

from ._world import ALL_PATHS, DOCUMENT, make_world, operation, running

PAGE = docs_page(DOCUMENT)
HTML = PAGE.html.decode()


class Reading(HTMLParser):
    """What is on a page; fails where elements are not closed in order."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def test_page_has_every_operation() -> None:
    """Each operation has an anchor, is in the contents, and shows its path and samples."""
    page = Reading(HTML)
    text = "".join(page.text)
    for path in ALL_PATHS:
        assert operation(path)["operationId"] in page.values("id")
        assert f"#{operation(path)['operationId']}" in page.values("href")
        assert operation(path)["summary"].split("`")[0] in text
        for sample in operation(path)["x-codeSamples"]:
            assert sample["source"] in text


def test_page_has_every_code_and_header() -> None:
    """Each code and each response header has a row to link to, and text to read."""
    ids = Reading(HTML).values("id")
    for code in DOCUMENT["components"]["examples"]:
        assert f"error-{code}" in ids
    for name in DOCUMENT["components"]["headers"]:
        assert f"header-{name}" in ids


def test_page_links_lead_somewhere() -> None:
    """Ids are unique, anchors exist, and the only other address is the document beside it."""
    page = Reading(HTML)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = set(page.values("href"))
    assert {link for link in links if not link.startswith("#")} == {"openapi.json"}
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert set(page.values("aria-labelledby")) <= set(ids)


def test_page_loads_nothing() -> None:
    """No script, nothing with an address to fetch, no style but the one in the head."""
    page = Reading(HTML)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & {*page.tags}
    names = {name for _, name, _ in page.attributes}
    assert not {"src", "srcset", "data", "poster", "action", "style", "background"} & names
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"(?i)url\(|@import|image-set\(", HTML)


def test_page_policy_allows_its_own_style_and_nothing_else() -> None:
    """The hash is that of what stands between the style tags."""
    (style,) = re.findall(r"<style>(.*?)</style>", HTML, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert PAGE.policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]


async def test_page_is_sent_with_its_policy(autojump_clock: object) -> None:
    """The header comes with the page, and the page is the one that the policy is for."""
    async with running(make_world()) as client:
        answer = await client.get("/docs")
    assert answer.headers["content-security-policy"] == PAGE.policy
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.body == PAGE.html


def test_page_can_be_used_without_seeing_it() -> None:
    """A language, a way past the contents, one main part, headings in order, captions."""
    page = Reading(HTML)
    assert ("html", "lang", "en") in page.attributes
    assert page.values("href")[0] == "#main"
    assert page.tags.count("main") == page.tags.count("h1") == 1
    assert page.tags.count("table") == page.tags.count("caption")
    assert page.tags.count("th") == len(page.values("scope"))
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@settings(max_examples=25, deadline=None)
@given(hostile=st.text(min_size=1) | st.sampled_from(["</style><script>", "`<b>`", "{{ 1 }}", '"']))
def test_page_shows_any_text_as_text(hostile: str) -> None:
    """Whatever a name contains, the page has the same elements and attributes as ever."""
    document = openapi_document(version=hostile, tiers=(f"a{hostile}",))
    page, usual = (
        Reading(docs_page(described).html.decode())
        for described in (document, openapi_document(version="1", tiers=("a",)))
    )
    code = {"code"}  # a backtick begins one
    assert [tag for tag in page.tags if tag not in code] == [
        tag for tag in usual.tags if tag not in code
    ]
    assert page.values("id") == usual.values("id")
    assert page.values("href") == usual.values("href")
