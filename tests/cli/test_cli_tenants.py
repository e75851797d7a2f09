"""The tenants commands, against real PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bulkhead_trio.tenancy._key_rules import digest_of, key_id_in

from .conftest import Invoke

SECRET = "a secret that is long enough"


class Tenants:
    """``tenants("list")``: a command on one database, its answer as JSON where it has one."""

    def __init__(self, invoke: Invoke, database: str) -> None:
        self._invoke = invoke
        self._variables = {"DATABASE_URL": database, "SECRET_KEY": SECRET}

    def run(self, *arguments: str, **more: str) -> Any:
        return self._invoke("tenants", *arguments, **self._variables, **more)

    def json(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return json.loads(result.stdout)

    def fails(self, *arguments: str) -> tuple[int, str]:
        result = self.run(*arguments)
        assert result.stdout == ""
        return result.exit_code, result.stderr


@pytest.fixture
def tenants(invoke: Invoke, database: str) -> Tenants:
    return Tenants(invoke, database)


def test_tenant_is_made_shown_changed_and_deleted(tenants: Tenants) -> None:
    """The whole life of a tenant, by its name and by its id."""
    made = tenants.json("create", "acme", "--tier", "pro", "--rate-limit", "100/1", "--weight", "5")
    assert (made["tier"], made["weight"], made["active"]) == ("pro", 5, True)
    assert made["rateLimit"] == {"limit": 100, "windowSeconds": 1}
    assert [each["id"] for each in tenants.json("list")] == [made["id"]]
    shown = tenants.json("show", made["id"])
    assert (shown["routes"], [key["id"] for key in shown["keys"]]) == (
        0, [key_id_in(made["apiKey"])],
    )  # fmt: skip
    changed = tenants.json("update", "acme", "--rate-limit", "none", "--inactive")
    assert (changed["rateLimit"], changed["active"], changed["weight"]) == (None, False, 5)
    assert tenants.json("update", "acme", "--name", "Acme & Co")["version"] == 3
    assert tenants.json("update", "Acme & Co", "--tier", "pro")["version"] == 3
    gone = tenants.run("delete", "Acme & Co", "--yes")
    assert (gone.exit_code, gone.stdout) == (0, "Deleted the tenant Acme & Co.\n")
    assert tenants.json("list") == []


def test_key_is_good_and_shown_once(tenants: Tenants, database: str) -> None:
    """Standard output is the key alone for a person's script; the database has its digest."""
    made = tenants.run("create", "acme", "--tier", "free")
    key = made.stdout.splitlines()[-1]
    assert "shown this once" in made.stderr
    with psycopg.connect(database) as connection:
        (digest,) = connection.execute("SELECT digest FROM api_keys").fetchall()[0]
        who = connection.execute("SELECT DISTINCT who FROM admin_audit").fetchall()
    assert digest == digest_of(SECRET.encode(), key)
    assert [name.split(":")[0] for (name,) in who] == ["cli"]
    for arguments in (("list",), ("show", "acme"), ("show", "acme", "--json")):
        shown = tenants.run(*arguments)
        assert "acme" in shown.stdout
        assert key.rpartition("_")[2] not in shown.output


def test_keys_are_rotated(tenants: Tenants) -> None:
    """A new key beside the old one, or instead of all others; one is revoked by its id."""
    first = key_id_in(tenants.json("create", "acme", "--tier", "free")["apiKey"])
    both = tenants.json("rotate-key", "acme")
    assert [key["revokedAt"] for key in both["keys"]] == [None, None]
    second = key_id_in(both["apiKey"])
    alone = tenants.json("rotate-key", "acme", "--revoke-others")
    third = key_id_in(alone["apiKey"])
    good = [key["id"] for key in alone["keys"] if key["revokedAt"] is None]
    assert (good, len(alone["keys"])) == ([third], 3)
    revoked = tenants.json("revoke-key", "acme", str(third))
    assert {key["id"] for key in revoked["keys"] if key["revokedAt"]} == {first, second, third}
    assert tenants.fails("revoke-key", "acme", "nothing")[0] == 1


def test_people_are_told_in_tables(tenants: Tenants) -> None:
    """Names that rich would take for markup are shown as they are."""
    assert "There are no tenants" in tenants.run("list").stdout
    tenants.run("create", "[bold]acme", "--tier", "free", "--rate-limit", "7/0.5")
    listed = tenants.run("list").stdout
    assert "[bold]acme" in listed
    assert "7/0.5" in listed
    assert "last used" in tenants.run("show", "[bold]acme").stdout
    asked = tenants.run("rotate-key", "[bold]acme").stdout
    assert "1 other still good" in asked


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tier", "gold"), "tier: must be one of free, pro, enterprise"),
        (("--tier", "pro", "--weight", "0"), "weight: must be a whole number"),
        (("--tier", "pro", "--rate-limit", "0/60"), "rateLimit.limit: must be a whole number"),
        (("--tier", "pro", "--rate-limit", "60"), "--rate-limit must be LIMIT/SECONDS"),
        (("--tier", "pro", "--weight", "x"), "'x' is not a valid integer"),
        ((), "Missing option '--tier'"),
    ],
)
def test_wrong_values_are_usage_errors(
    tenants: Tenants, arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, what is wrong, and nothing is made."""
    status, told = tenants.fails("create", "acme", *arguments)
    assert status == 2
    assert said in told
    assert tenants.json("list") == []


def test_unknown_and_ambiguous_names_fail(tenants: Tenants) -> None:
    """Exit code 1 and a line; a name that several have is no name."""
    assert tenants.fails("show", "nobody") == (1, "Error: There is no tenant called nobody.\n")
    nobody = "6f1c1f9e-3f0b-4f0e-9a55-0d2a3e6b7c11"
    assert tenants.fails("show", nobody) == (1, "Error: There is no tenant with this id.\n")
    ids = [tenants.json("create", "twin", "--tier", "free")["id"] for _ in range(2)]
    status, told = tenants.fails("update", "twin", "--weight", "2")
    assert status == 1
    assert all(each in told for each in ids)
    assert tenants.json("update", ids[1], "--weight", "2")["weight"] == 2


def test_delete_asks_first(tenants: Tenants) -> None:
    """No answer is no."""
    tenants.run("create", "acme", "--tier", "free")
    assert tenants.run("delete", "acme").exit_code == 1
    assert len(tenants.json("list")) == 1


def test_database_without_tables_says_what_to_do(
    invoke: Invoke, postgres_conninfo: str, tmp_path: Path
) -> None:
    """A database of one's own is not altered on the way; the embedded one is made as needed."""
    result = invoke("tenants", "list", DATABASE_URL=postgres_conninfo, SECRET_KEY=SECRET)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "bulkhead-trio db migrate" in result.stderr
    made = invoke("tenants", "create", "acme", "--tier", "free", "--data-dir", "data")
    assert made.exit_code == 0, made.output
    assert (tmp_path / "data" / "secret.key").stat().st_mode & 0o777 == 0o600
    listed = invoke("tenants", "list", "--json", "--data-dir", "data")
    assert [each["name"] for each in json.loads(listed.stdout)] == ["acme"]
