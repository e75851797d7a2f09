"""The gateway as a file, against real PostgreSQL."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from click.testing import Result

from .conftest import Invoke

SECRET = "a secret that is long enough"

FILE = """
[tenants.acme]
tier = "pro"
weight = 2

[tenants.acme.rateLimit]
limit = 100
windowSeconds = 1

[[tenants.acme.routes]]
path = "/api/users"
method = ["GET", "HEAD"]
upstreams = [
    { url = "https://one.example.com", weight = 3 },
    { url = "https://two.example.com", weight = 1 },
]

[tenants.acme.routes.transform.request.headers.set]
Authorization = "Bearer s3cret"
X-From = "gateway"

[[tenants.acme.routes]]
path = "/probe"
pathType = "exact"
upstreams = [{ url = "https://one.example.com" }]

[tenants."Bell & Co"]
tier = "free"
active = false
"""


@pytest.fixture
def gateway(invoke: Invoke, database: str, tmp_path: Path) -> Callable[..., Result]:
    """``gateway("apply", FILE)``: a command; a text is first written to a file."""

    def run(command: str, text: str | None = None, *options: str) -> Result:
        arguments = [command]
        if text is not None:
            (tmp_path / "gateway.toml").write_text(text)
            arguments.append("gateway.toml")
        return invoke("gateway", *arguments, *options, DATABASE_URL=database, SECRET_KEY=SECRET)

    return run


def rows(database: str, table: str) -> int:
    with psycopg.connect(database) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])  # type: ignore[arg-type]


def test_file_is_applied_once(gateway: Callable[..., Result], database: str) -> None:
    """Looked at first, then done, then there is nothing to do; each new key is printed once."""
    looked = gateway("apply", FILE, "--dry-run")
    assert looked.exit_code == 0, looked.output
    assert "+ tenant acme" in looked.stdout
    assert "  + route GET HEAD /api/users (prefix)" in looked.stdout
    assert '      + upstreams[0].url: "https://one.example.com"' in looked.stdout
    assert "2 tenants to make, 2 routes to make." in looked.stdout
    assert "s3cret" not in looked.output
    assert rows(database, "tenants") == rows(database, "admin_audit") == 0
    done = gateway("apply", FILE)
    assert done.exit_code == 0
    assert "Done." in done.stdout
    assert [line[:3] for line in done.stdout.splitlines()[-2:]] == ["bh_", "bh_"]
    assert (rows(database, "tenants"), rows(database, "routes")) == (2, 2)
    again = gateway("apply", FILE)
    assert (again.exit_code, again.stdout) == (0, "Nothing to do.\n")
    assert rows(database, "admin_audit") == 6


def test_export_is_what_was_applied_and_changes_nothing(
    gateway: Callable[..., Result], database: str
) -> None:
    """The same text each time; secrets masked, and kept when it is applied again."""
    gateway("apply", FILE)
    exported = gateway("export").stdout
    assert gateway("export").stdout == exported
    tenants = tomllib.loads(exported)["tenants"]
    assert list(tenants) == ["Bell & Co", "acme"]
    assert tenants["acme"]["rateLimit"] == {"limit": 100, "windowSeconds": 1}
    assert [each["path"] for each in tenants["acme"]["routes"]] == ["/api/users", "/probe"]
    assert tenants["acme"]["routes"][0]["upstreams"] == [
        {"url": "https://one.example.com", "weight": 3},
        {"url": "https://two.example.com"},
    ]
    for secret in ("s3cret", "tenantId", "bh_"):
        assert secret not in exported
    again = gateway("apply", exported)
    assert again.stdout == "Nothing to do.\n", again.output
    assert "Bearer s3cret" in gateway("export", None, "--show-secrets").stdout
    changed = gateway("apply", exported.replace('gateway"', 'edge"'))
    assert "~ transform.request.headers.set.X-From" in changed.stdout
    assert "Bearer s3cret" in gateway("export", None, "--show-secrets").stdout


def test_diff_says_what_changes(gateway: Callable[..., Result]) -> None:
    """A line for each member, before and after; a secret that changes is not shown."""
    gateway("apply", FILE)
    text = (
        FILE.replace('tier = "pro"', 'tier = "enterprise"')
        .replace("s3cret", "an0ther")
        .replace("weight = 3 }", "weight = 5 }")
        .replace("weight = 1 }", "weight = 2 }")
        .replace('path = "/probe"', 'path = "/there"')
        .replace("[tenants.acme.rateLimit]\nlimit = 100\nwindowSeconds = 1\n", "")
    )
    lines = gateway("apply", text, "--dry-run").stdout.splitlines()
    assert lines == [
        "~ tenant acme",
        '    ~ tier: "pro" -> "enterprise"',
        "    - rateLimit.limit: 100",
        "    - rateLimit.windowSeconds: 1",
        "  ~ route GET HEAD /api/users (prefix)",
        "      ~ upstreams[0].weight: 3 -> 5",
        '      ~ transform.request.headers.set.Authorization: "***" -> "***" (another secret)',
        "      + upstreams[1].weight: 2",
        "  - route * /probe (exact)",
        "  + route * /there (exact)",
        '      + path: "/there"',
        '      + pathType: "exact"',
        '      + upstreams[0].url: "https://one.example.com"',
        "1 tenant to change, 1 route to make, 1 route to change, 1 route to delete.",
    ]


def test_tenants_that_are_not_in_the_file_are_left_alone(
    gateway: Callable[..., Result], database: str
) -> None:
    """Unless it is asked to delete them."""
    gateway("apply", FILE)
    alone = gateway("apply", '[tenants."Bell & Co"]\ntier = "free"\nactive = false\n')
    assert alone.stdout == (
        "Nothing to do. 1 tenant is not in the file and left alone (--prune deletes).\n"
    )
    pruned = gateway("apply", '[tenants."Bell & Co"]\ntier = "free"\nactive = false\n', "--prune")
    assert "- tenant acme, its keys and its routes (2)" in pruned.stdout
    assert (rows(database, "tenants"), rows(database, "routes")) == (1, 0)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("x = 1", ["x: is not known here"]),
        ("tenants = 1", ["tenants: must be a table"]),
        ("[tenants.acme", ["is not TOML"]),
        (
            '[tenants.acme]\ntier = "gold"\nweight = 0\n[tenants."b c"]\ncolour = 1\n',
            [
                "tenants.acme.tier: must be one of",
                "tenants.acme.weight: must be",
                'tenants."b c".colour: is not known here',
                'tenants."b c".tier: is missing',
            ],
        ),
        (
            '[tenants.acme]\ntier = "pro"\nname = "x"\n[[tenants.acme.routes]]\n'
            'path = "/"\ntenantId = "x"\nupstreams = [{ url = "http://10.0.0.1" }]\n',
            [
                "tenants.acme.name: is in the table's own name",
                "tenants.acme.routes[0].tenantId: is the tenant",
                "tenants.acme.routes[0].upstreams[0].url: 10.0.0.1 may not be connected to",
            ],
        ),
        ('[tenants.acme]\ntier = "pro"\nroutes = 1\n', ["tenants.acme.routes: must be tables"]),
        (
            '[tenants.acme]\ntier = "pro"\nweight = 1979-05-27\nrateLimit = inf\n',
            ["tenants.acme.rateLimit: must be", "tenants.acme.weight: must be"],
        ),
        (
            '[tenants.acme]\ntier = "pro"\n[[tenants.acme.routes]]\npath = "/"\n'
            'upstreams = [{ url = "http://a.example" }]\n'
            '[tenants.acme.routes.transform.request.headers.set]\nX-Token = "***"\n',
            ["tenants.acme.routes[0].transform.request.headers.set.X-Token: is masked"],
        ),
        (
            '[tenants.acme]\ntier = "pro"\n'
            '[[tenants.acme.routes]]\npath = "/admin/x"\n'
            'upstreams = [{ url = "http://a..example" }]\n'
            '[[tenants.acme.routes]]\npath = "/x"\nupstreams = [{ url = "http://a.example" }]\n'
            '[[tenants.acme.routes]]\npath = "/x"\nupstreams = [{ url = "http://b.example" }]\n',
            [
                "tenants.acme.routes[0].upstreams[0].url: has a host's name with an empty part",
                "tenants.acme.routes[2].path: is there already: routes[1] has the same method",
            ],
        ),
        (
            '[tenants.acme]\ntier = "pro"\n[[tenants.acme.routes]]\npath = "/health"\n'
            'pathType = "exact"\nupstreams = [{ url = "http://a.example" }]\n',
            ["tenants.acme.routes[0].path: is a path that the server answers itself"],
        ),
        ("x = " + "[" * 5000, ["has too many tables or arrays within each other"]),
        ("x." * 5000 + "x = 1", ["x: is not known here"]),
        ("[" + "x." * 5000 + "x]", ["x: is not known here"]),
        ('{"tenants": ' + "[" * 5000, ["is not TOML"]),
        ("x = " + "9" * 5000, ["has a number of too many digits"]),
        (
            "[tenants.acme]\ntier = 'pro'\n[tenants.acme.weight." + "x." * 5000 + "x]",
            ["tenants.acme.weight: must be"],
        ),
        (
            "[tenants.acme]\ntier = 'pro'\n[[tenants.acme.routes]]\n"
            "[tenants.acme.routes.resilience." + "x." * 5000 + "x]",
            ["tenants.acme.routes[0]: has too many objects or arrays within each other"],
        ),
    ],
)
def test_wrong_file_is_listed_whole(
    gateway: Callable[..., Result], database: str, text: str, lines: list[str]
) -> None:
    """Exit 2 with a line for each mistake, where it is; nothing is done."""
    result = gateway("apply", text)
    assert (result.exit_code, result.stdout) == (2, "")
    told = result.stderr.splitlines()
    assert told[0] == "Error: gateway.toml is not right:"
    assert len(told) == len(lines) + 1
    for line, wanted in zip(sorted(told[1:]), sorted(lines), strict=True):
        assert line.startswith(f"  {wanted}")
    assert rows(database, "tenants") == 0


def test_file_is_applied_whole_or_not_at_all(gateway: Callable[..., Result], database: str) -> None:
    """A database that refuses one route keeps nothing of the rest."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE routes ADD CHECK (spec->>'path' <> '/probe')")
    result = gateway("apply", FILE)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == "Error: a value is not one that can be kept"
    for table in ("tenants", "api_keys", "routes", "admin_audit"):
        assert rows(database, table) == 0


def test_file_cannot_tell_tenants_of_one_name_apart(
    gateway: Callable[..., Result], invoke: Invoke, database: str
) -> None:
    """Exit 1, and both are named."""
    variables = {"DATABASE_URL": database, "SECRET_KEY": SECRET}
    for _ in range(2):
        invoke("tenants", "create", "twin", "--tier", "free", **variables)
    for result in (gateway("export"), gateway("apply", FILE)):
        assert result.exit_code == 1
        assert "Two tenants are called twin" in result.stderr


def test_programs_are_told_in_json(gateway: Callable[..., Result]) -> None:
    """What was done, and the new keys."""
    told = json.loads(gateway("apply", FILE, "--json").stdout)
    assert told["applied"] is True
    assert [(each["tenant"], each["action"]) for each in told["changes"]] == [
        ("Bell & Co", "create"), ("acme", "create"),
    ]  # fmt: skip
    assert set(told["apiKeys"]) == {"acme", "Bell & Co"}
    again = json.loads(gateway("apply", FILE, "--json").stdout)
    assert again == {"applied": False, "changes": [], "leftAlone": [], "apiKeys": {}}


def test_file_that_is_not_there_or_no_text_is_wrong(
    invoke: Invoke, database: str, tmp_path: Path
) -> None:
    """Exit 2."""
    (tmp_path / "binary").write_bytes(b"\xff")
    variables = {"DATABASE_URL": database, "SECRET_KEY": SECRET}
    assert invoke("gateway", "apply", "nowhere.toml", **variables).exit_code == 2
    result = invoke("gateway", "apply", "binary", **variables)
    assert (result.exit_code, result.stderr) == (2, "Error: binary is not UTF-8.\n")


def test_empty_gateway_is_a_file_too(gateway: Callable[..., Result]) -> None:
    """Nothing is nothing, there and back."""
    exported = gateway("export").stdout
    assert tomllib.loads(exported) == {}
    assert gateway("apply", exported).stdout == "Nothing to do.\n"
