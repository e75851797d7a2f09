"""SMTP_URL is checked at start: what passes there, the channel can read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.config import ConfigurationError, load_settings
from bulkhead_trio.delivery.channels.smtp import read_smtp_url

PARTS = st.text("abü1 :/@?#%=&[]\r\n0", max_size=6)
URLS = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(["smtp", "smtps", "SMTP", "http"]),
    st.one_of(st.just(""), PARTS.map("{}@".format), st.just("user:pass@")),
    st.one_of(st.just("mail"), st.just("[::1]"), PARTS),
    st.one_of(st.just(""), st.just(":25"), st.just(":0"), PARTS.map(":{}".format)),
    st.sampled_from(["", "/", "/x", "?", "?starttls=require", "?starttls=x", "?a=b", "#", "#x"]),
)


def is_taken(url: str) -> bool:
    try:
        load_settings(environ={}, overrides={"smtp_url": url})
    except ConfigurationError:
        return False
    return True


def is_read(url: str) -> bool:
    try:
        read_smtp_url(url.strip())
    except ValueError:
        return False
    return True


@given(url=URLS)
def test_smtp_url_that_is_taken_can_be_read(url: str) -> None:
    """No mistake is left for later than the start."""
    assert is_read(url) or not is_taken(url)


def test_smtp_urls_of_every_form_are_taken_and_read() -> None:
    """The property above is not true of nothing."""
    for url in (
        "smtp://mail",
        "smtp://user:p%40ss@mail.example.com:587?starttls=require",
        "smtp://[::1]:2525/?starttls=never",
        "smtps://user@mail",
    ):
        assert is_taken(url)
        assert is_read(url)
