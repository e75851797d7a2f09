"""Routes that no request would ever come to, told apart from those that merely cover our paths."""

from __future__ import annotations

import pytest

from bulkhead_trio.api.own_paths import hidden_by_ours, own_paths
from bulkhead_trio.api.routes import OwnPaths

from ._world import make_world

HIDDEN = [
    ("/health", "exact"),
    ("/api/data", "exact"),
    ("/%61pi/data", "exact"),
    ("/api/orders/my-order", "exact"),
    ("/metrics/bulkheads", "exact"),
    ("/openapi.json", "exact"),
    ("/admin", "exact"),
    ("/admin/what/there/is/not", "exact"),
    ("/admin", "prefix"),
    ("/admin/", "prefix"),
    ("/%61dmin", "prefix"),
    ("/admin/tenants/x", "prefix"),
    ("^/health$", "regex"),
    ("/api/data$", "regex"),
    ("^/api/orders/mine$", "regex"),
    ("^/admin$", "regex"),
    ("^/admin/.*$", "regex"),
    ("/admin/(a|b)", "regex"),
]

SEEN = [
    ("/", "exact"),
    ("/health/", "exact"),
    ("/healthy", "exact"),
    ("/api/orders/my-order/items", "exact"),
    ("/administrator", "exact"),
    ("/", "prefix"),
    ("/api", "prefix"),
    ("/health", "prefix"),
    ("/api/orders", "prefix"),
    ("/administrator", "prefix"),
    (".*", "regex"),
    ("^/health", "regex"),
    ("^/admin", "regex"),
    ("^/api/.*$", "regex"),
]


@pytest.mark.parametrize(("path", "path_type"), HIDDEN)
def test_path_that_is_all_ours_is_hidden(path: str, path_type: str) -> None:
    """However it is spelt, and whatever is asked below /admin."""
    assert "no request" in (hidden_by_ours(path, path_type) or "")


@pytest.mark.parametrize(("path", "path_type"), SEEN)
def test_path_that_covers_ours_is_seen(path: str, path_type: str) -> None:
    """All other requests for it come."""
    assert hidden_by_ours(path, path_type) is None


async def test_own_paths_are_those_of_the_resources() -> None:
    """What the description says is what the data plane goes by."""
    routes = [route for resource in make_world().resources for route in resource.routes()]
    served = OwnPaths(route.path for route in routes)
    for path in [route.path.replace("{", "").replace("}", "") for route in routes]:
        assert path in served
        assert path in own_paths()
        for other in (path + "/x", path[:-1], "/x" + path):
            assert (other in served) == (other in own_paths())
