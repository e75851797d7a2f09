"""The deliveries commands, against real PostgreSQL."""

from __future__ import annotations

import datetime
import json
import uuid
from typing import Any

import psycopg
import pytest

from bulkhead_trio.cli._delivery_filters import moment_of
from bulkhead_trio.database.public_ids import public_id

from .conftest import Invoke

SECRET = "a secret that is long enough"
NOBODYS = uuid.UUID(int=7)


class World:
    """Tenants with webhooks, deliveries and notifications, in one database."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.connection = psycopg.connect(database, autocommit=True)

    def one(self, statement: str, *parameters: Any) -> Any:
        row = self.connection.execute(statement, parameters).fetchone()
        assert row is not None
        return row[0]

    def tenant(self, name: str) -> uuid.UUID:
        made = self.one("INSERT INTO tenants (name, tier) VALUES (%s, 'free') RETURNING id", name)
        assert isinstance(made, uuid.UUID)
        return made

    def webhook(self, tenant: uuid.UUID) -> uuid.UUID:
        made = self.one(
            "INSERT INTO webhooks (id, tenant_id, url, event_types, secrets, secrets_until)"
            " VALUES (gen_random_uuid(), %s, 'https://x', '{*}', ARRAY['s'::bytea], ARRAY[NULL]::"
            "timestamptz[]) RETURNING id",
            tenant,
        )
        assert isinstance(made, uuid.UUID)
        return made

    def delivery(
        self,
        tenant: uuid.UUID,
        webhook: uuid.UUID,
        *,
        state: str = "dead",
        type: str = "order.completed",
        age: str = "1 minute",
    ) -> str:
        event = self.one(
            "INSERT INTO events (tenant_id, type, payload, created_at)"
            " VALUES (%s, %s, '{}', now() - %s::interval) RETURNING id",
            tenant, type, age,
        )  # fmt: skip
        ended = state in ("dead", "delivered")
        made = self.one(
            "INSERT INTO deliveries (event_id, webhook_id, tenant_id, state, attempts, created_at,"
            " ended_at) VALUES (%s, %s, %s, %s, 1, now() - %s::interval,"
            " CASE WHEN %s THEN now() END) RETURNING id",
            event, webhook, tenant, state, age, ended,
        )  # fmt: skip
        self.attempt(1, made, response="<b>[red]Nobody</b>\x1b[2J\nhere")
        return public_id("dlv", made)

    def notification(self, tenant: uuid.UUID, *, state: str = "dead", age: str = "1 minute") -> str:
        made = self.one(
            "INSERT INTO notifications (tenant_id, channel, recipient, subject, body, state,"
            " attempts, created_at, ended_at) VALUES (%s, 'smtp', 'ada@example.com', 'Hello',"
            " 'a body', %s, 1, now() - %s::interval, CASE WHEN %s THEN now() END) RETURNING id",
            tenant, state, age, state in ("dead", "delivered"),
        )  # fmt: skip
        self.attempt(2, made, response="550 no such user")
        return public_id("ntf", made)

    def attempt(self, kind: int, item: uuid.UUID, *, response: str) -> None:
        self.connection.execute(
            "INSERT INTO delivery_attempts VALUES (%s, %s, 1, now(), 404, 'it said no', 12.5, %s)",
            (kind, item, response),
        )

    def states(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for prefix, table in (("dlv", "deliveries"), ("ntf", "notifications")):
            rows = self.connection.execute(f"SELECT id, state FROM {table}").fetchall()
            found |= {f"{prefix}_{id_.hex}": state for id_, state in rows}
        return found

    def work(self) -> int:
        return int(self.one("SELECT count(*) FROM work"))


class Deliveries:
    """``deliveries("list")``: a command on that database."""

    def __init__(self, invoke: Invoke, database: str) -> None:
        self._invoke = invoke
        self._variables = {"DATABASE_URL": database, "SECRET_KEY": SECRET}

    def run(self, *arguments: str, **more: str) -> Any:
        return self._invoke("deliveries", *arguments, **{**self._variables, **more})

    def json(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return json.loads(result.stdout)

    def ids(self, *arguments: str) -> list[str]:
        return [item["id"] for item in self.json("list", *arguments)["items"]]

    def fails(self, *arguments: str) -> tuple[int, str]:
        result = self.run(*arguments)
        assert result.stdout == ""
        return result.exit_code, result.stderr


@pytest.fixture
def world(database: str) -> Any:
    made = World(database)
    with made.connection:
        yield made


@pytest.fixture
def deliveries(invoke: Invoke, database: str) -> Deliveries:
    return Deliveries(invoke, database)


def test_list_has_everybodys_newest_first(deliveries: Deliveries, world: World) -> None:
    """All states, of all tenants; notifications are asked for with --dead."""
    acme, bell = world.tenant("acme"), world.tenant("bell")
    hook, other = world.webhook(acme), world.webhook(bell)
    oldest = world.delivery(acme, hook, state="delivered", age="3 hours")
    middle = world.delivery(bell, other, state="dead", age="2 hours")
    newest = world.delivery(acme, hook, state="retrying", age="1 hour")
    world.notification(acme, age="90 minutes")
    assert deliveries.ids() == [newest, middle, oldest]
    first = deliveries.json("list")["items"][0]
    assert (first["state"], first["tenantId"]) == ("retrying", str(acme))
    assert (first["webhookId"], first["type"]) == (public_id("wh", hook), "order.completed")


def test_list_is_filtered(deliveries: Deliveries, world: World) -> None:
    """By state, tenant (id or name), webhook, type, age; and by several at once."""
    acme, bell = world.tenant("acme"), world.tenant("bell")
    one, two, other = world.webhook(acme), world.webhook(acme), world.webhook(bell)
    first = world.delivery(acme, one, state="delivered", age="2 days")
    second = world.delivery(acme, two, type="user.created", age="3 hours")
    third = world.delivery(bell, other, type="order.item.added", age="1 minute")
    assert deliveries.ids("--state", "delivered") == [first]
    assert deliveries.ids("--tenant", "acme") == [second, first]
    assert deliveries.ids("--tenant", str(bell)) == [third]
    assert deliveries.ids("--webhook", public_id("wh", two)) == [second]
    assert deliveries.ids("--type", "order.*") == [third, first]
    assert deliveries.ids("--type", "order.item") == []
    assert deliveries.ids("--type", "*") == [third, second, first]
    assert deliveries.ids("--since", "1d") == [third, second]
    assert deliveries.ids("--since", "90m", "--tenant", "acme") == []
    assert deliveries.ids("--state", "dead", "--type", "user.created", "--since", "7d") == [second]


def test_list_of_dead_letters_has_notifications_too(deliveries: Deliveries, world: World) -> None:
    """In one list, by age; what asks for webhooks' own leaves them out."""
    acme = world.tenant("acme")
    hook = world.webhook(acme)
    oldest = world.delivery(acme, hook, age="3 hours")
    middle = world.notification(acme, age="2 hours")
    newest = world.delivery(acme, hook, age="1 hour")
    world.delivery(acme, hook, state="pending")
    world.notification(acme, state="delivered")
    assert deliveries.ids("--dead") == [newest, middle, oldest]
    assert deliveries.ids("--dead", "--since", "150m") == [newest, middle]
    assert deliveries.ids("--dead", "--type", "order.*") == [newest, oldest]
    assert deliveries.ids("--dead", "--webhook", public_id("wh", hook)) == [newest, oldest]
    kinds = [item["kind"] for item in deliveries.json("list", "--dead")["items"]]
    assert kinds == ["webhook", "notification", "webhook"]


def test_list_goes_on_where_it_ended(deliveries: Deliveries, world: World) -> None:
    """Pages of any size are the list, nothing twice and nothing left out."""
    acme = world.tenant("acme")
    hook = world.webhook(acme)
    expected = [
        world.delivery(acme, hook, age=f"{minutes} minutes")
        if minutes % 3
        else world.notification(acme, age=f"{minutes} minutes")
        for minutes in range(1, 12)
    ]
    found: list[str] = []
    cursor: list[str] = []
    for _ in range(4):
        page = deliveries.json("list", "--dead", "--limit", "3", *cursor)
        found += [item["id"] for item in page["items"]]
        cursor = ["--cursor", page["nextCursor"]] if page["nextCursor"] else []
    assert (found, cursor) == (expected, [])
    told = deliveries.run("list", "--dead", "--limit", "3")
    assert "There are more: --cursor " in told.stderr


def test_list_of_more_than_a_page_of_the_store(deliveries: Deliveries, world: World) -> None:
    """--limit may be more than the store gives at once."""
    acme = world.tenant("acme")
    hook = world.webhook(acme)
    for seconds in range(130):
        world.delivery(acme, hook, age=f"{seconds} seconds")
    assert len(deliveries.ids("--limit", "120")) == 120
    assert len(set(deliveries.ids("--limit", "1000", "--dead"))) == 130


def test_show_has_every_attempt(deliveries: Deliveries, world: World) -> None:
    """Of a delivery, and of a notification."""
    acme = world.tenant("acme")
    delivery = world.delivery(acme, world.webhook(acme))
    shown = deliveries.json("show", delivery)
    assert (shown["id"], shown["state"]) == (delivery, "dead")
    (attempt,) = shown["attempts"]
    assert (attempt["status"], attempt["error"], attempt["durationMs"]) == (404, "it said no", 12.5)
    shown = deliveries.json("show", world.notification(acme))
    assert (shown["channel"], shown["to"]) == ("smtp", "ada@example.com")
    assert [each["response"] for each in shown["attempts"]] == ["550 no such user"]


def test_people_are_told_in_tables_that_strangers_cannot_write(
    deliveries: Deliveries, world: World
) -> None:
    """What a receiver answers is neither markup nor a command to the terminal."""
    assert deliveries.run("list").stdout == "There are none.\n"
    acme = world.tenant("acme")
    delivery = world.delivery(acme, world.webhook(acme))
    notification = world.notification(acme)
    listed = deliveries.run("list", "--dead").stdout
    assert delivery in listed
    assert notification in listed
    shown = deliveries.run("list", COLUMNS="60", FORCE_COLOR="1").stdout
    assert delivery in shown  # to be copied
    shown = deliveries.run("show", delivery).stdout
    assert "<b>[red]Nobody</b> [2J here" in shown
    assert "\x1b" not in shown
    assert "Hello" in deliveries.run("show", notification).stdout


def test_list_in_a_pipe_is_a_line_a_row(deliveries: Deliveries, world: World) -> None:
    """However narrow the terminal is that the program was started in, and however wide the row."""
    acme = world.tenant("acme")
    hook = world.webhook(acme)
    delivery = world.delivery(acme, hook, type="x" * 128)
    listed = deliveries.run("list", COLUMNS="40").stdout.splitlines()
    (row,) = (line for line in listed if delivery in line)
    assert "x" * 128 in row
    assert public_id("wh", hook) in row
    assert len(listed) == 3  # with its head


def test_list_says_whose_each_is(deliveries: Deliveries, world: World) -> None:
    """Unless it was asked for one tenant's."""
    acme, bell = world.tenant("acme"), world.tenant("bell")
    world.delivery(acme, world.webhook(acme))
    world.notification(bell)
    everybodys = deliveries.run("list", "--dead").stdout
    assert str(acme) in everybodys
    assert str(bell) in everybodys
    assert str(acme) not in deliveries.run("list", "--tenant", "acme").stdout


@pytest.mark.parametrize("how", [("--dry-run",), ("--dry-run", "--json"), ()])
def test_replay_looks_before_it_says_how_many(
    deliveries: Deliveries, world: World, how: tuple[str, ...]
) -> None:
    """What --dry-run counts, and what is asked about, could be sent again."""
    acme = world.tenant("acme")
    gone, hook = world.webhook(acme), world.webhook(acme)
    lost, dead = world.delivery(acme, gone), world.delivery(acme, hook)
    world.connection.execute("DELETE FROM webhooks WHERE id = %s", (gone,))
    nobodys = public_id("dlv", NOBODYS)
    for id_, status, words in (
        ("garbage", 2, "is no id of a delivery"),
        (nobodys, 1, "There is no delivery with this id."),
        (lost, 1, "The webhook of this delivery has been deleted."),
    ):
        found, told = deliveries.fails("replay", dead, id_, *how)
        assert found == status
        assert words in told
        assert "Send" not in told
    told = deliveries.run("replay", dead, dead, "--dry-run")
    assert (told.exit_code, told.stdout) == (0, "1 would be sent again.\n")


def test_replay_of_one_sends_it_again(deliveries: Deliveries, world: World) -> None:
    """Whatever end it came to; asked again, one that is on its way is not sent twice."""
    acme = world.tenant("acme")
    hook = world.webhook(acme)
    dead, delivered = world.delivery(acme, hook), world.delivery(acme, hook, state="delivered")
    notification = world.notification(acme)
    told = deliveries.run("replay", dead, delivered, notification, dead, "--yes")
    assert (told.exit_code, told.stdout) == (0, "3 will be sent again.\n")
    assert world.states() == dict.fromkeys((dead, delivered, notification), "pending")
    assert world.work() == 3
    assert deliveries.run("replay", dead, notification, "--yes").exit_code == 0
    assert world.work() == 3


def test_replay_to_a_webhook_that_is_no_more_fails(deliveries: Deliveries, world: World) -> None:
    """By its id it says why; by a filter it stays a dead letter, and the others go."""
    acme = world.tenant("acme")
    gone, hook = world.webhook(acme), world.webhook(acme)
    lost, dead = world.delivery(acme, gone), world.delivery(acme, hook)
    world.connection.execute("DELETE FROM webhooks WHERE id = %s", (gone,))
    status, told = deliveries.fails("replay", lost, "--yes")
    assert (status, told) == (1, "Error: The webhook of this delivery has been deleted.\n")
    assert deliveries.json("replay", "--dead", "--yes") == {"replayed": 1, "matching": 2}
    assert world.states() == {lost: "dead", dead: "pending"}


def test_replay_of_several_is_all_or_none(deliveries: Deliveries, world: World) -> None:
    """One that is not there keeps the others where they are."""
    acme = world.tenant("acme")
    dead = world.delivery(acme, world.webhook(acme))
    status, _ = deliveries.fails("replay", dead, public_id("dlv", NOBODYS), "--yes")
    assert (status, world.states(), world.work()) == (1, {dead: "dead"}, 0)


def test_replay_by_filter_takes_dead_letters_only(deliveries: Deliveries, world: World) -> None:
    """Those that it leaves, and nothing that has arrived or is on its way."""
    acme, bell = world.tenant("acme"), world.tenant("bell")
    hook, other = world.webhook(acme), world.webhook(bell)
    mine = world.delivery(acme, hook)
    old = world.delivery(acme, hook, age="3 days")
    letter = world.notification(acme)
    theirs = world.delivery(bell, other)
    arrived = world.delivery(acme, hook, state="delivered")
    told = deliveries.json("replay", "--tenant", "acme", "--since", "1d", "--yes")
    assert told == {"replayed": 2, "matching": 2}
    assert world.states() == {
        mine: "pending", letter: "pending", old: "dead", theirs: "dead", arrived: "delivered",
    }  # fmt: skip
    assert deliveries.json("replay", "--dead", "--yes")["replayed"] == 2
    assert world.states() == {
        mine: "pending", letter: "pending", old: "pending", theirs: "pending", arrived: "delivered",
    }  # fmt: skip
    nothing = deliveries.run("replay", "--dead", "--yes")
    assert (nothing.exit_code, nothing.stdout) == (0, "There is nothing to send again.\n")


def test_replay_of_many_goes_in_batches(deliveries: Deliveries, world: World) -> None:
    """More than one transaction takes are all sent again."""
    acme = world.tenant("acme")
    hook = world.webhook(acme)
    world.connection.execute(
        "WITH e AS (INSERT INTO events (tenant_id, type, payload) VALUES (%s, 'a', '1')"
        " RETURNING id) INSERT INTO deliveries (event_id, webhook_id, tenant_id, state, ended_at)"
        " SELECT e.id, %s, %s, 'dead', now() FROM e, generate_series(1, 2100)",
        (acme, hook, acme),
    )
    told = deliveries.run("replay", "--webhook", public_id("wh", hook), "--dry-run")
    assert told.stdout == "2,100 would be sent again.\n"
    assert world.work() == 0
    told = deliveries.run("replay", "--webhook", public_id("wh", hook), "--yes")
    assert told.stdout == "2,100 will be sent again.\n"
    assert (set(world.states().values()), world.work()) == ({"pending"}, 2100)


def test_replay_asks_first(deliveries: Deliveries, world: World) -> None:
    """No answer is no, and --dry-run asks nothing and does nothing."""
    acme = world.tenant("acme")
    dead = world.delivery(acme, world.webhook(acme))
    asked = deliveries.run("replay", "--dead")
    assert (asked.exit_code, asked.stdout) == (1, "")
    assert "Send 1 again?" in asked.stderr
    assert deliveries.run("replay", dead).exit_code == 1
    assert deliveries.json("replay", "--dead", "--dry-run") == {"replayed": 0, "matching": 1}
    assert deliveries.run("replay", dead, "--dry-run").exit_code == 0
    assert (world.states(), world.work()) == ({dead: "dead"}, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "--state", "lost"), "'lost' is not one of"),
        (("list", "--dead", "--state", "pending"), "--dead and --state pending exclude"),
        (("list", "--limit", "0"), "0 is not in the range"),
        (("list", "--limit", "1001"), "1001 is not in the range"),
        (("list", "--cursor", "x"), "--cursor must be where an earlier list ended"),
        (("list", "--since", "yesterday"), "must be how long ago"),
        (("list", "--type", "order.**"), "must be an event type"),
        (("list", "--webhook", "dlv_" + "0" * 32), "--webhook must be the id of a webhook"),
        (("show", "evt_" + "0" * 32), "is no id of a delivery"),
        (("show", "dlv_1"), "is no id of a delivery"),
        (("replay", "--yes"), "Name deliveries by their ids, or filter them"),
        (("replay", "dlv_" + "0" * 32, "--dead"), "Name deliveries by their ids, or filter them"),
        (("replay", "order-1", "--yes"), "is no id of a delivery"),
    ],
)
def test_wrong_usage_is_exit_2(
    deliveries: Deliveries, arguments: tuple[str, ...], said: str
) -> None:
    """What is wrong is said, and nothing is done."""
    status, told = deliveries.fails(*arguments)
    assert status == 2
    assert said in told


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", public_id("dlv", NOBODYS)),
        ("show", public_id("ntf", NOBODYS)),
        ("list", "--tenant", "nobody"),
        ("list", "--tenant", str(NOBODYS)),
        ("replay", "--tenant", "nobody", "--yes"),
    ],
)
def test_what_is_not_there_is_exit_1(deliveries: Deliveries, arguments: tuple[str, ...]) -> None:
    """A line that says so."""
    status, told = deliveries.fails(*arguments)
    assert status == 1
    assert told.startswith("Error: There is no ")


NOW = datetime.datetime(2026, 2, 11, 12, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", NOW - datetime.timedelta(seconds=30)),
        ("90m", NOW - datetime.timedelta(minutes=90)),
        (" 6h ", NOW - datetime.timedelta(hours=6)),
        ("7d", NOW - datetime.timedelta(days=7)),
        ("999999d", NOW - datetime.timedelta(days=3650)),
        ("2026-02-10", NOW - datetime.timedelta(hours=36)),
        ("2026-02-11T11:00", NOW - datetime.timedelta(hours=1)),
        ("2026-02-11T12:00Z", NOW),
        ("2026-02-11T14:00+02:00", NOW),
    ],
)
def test_moment_is_read(text: str, expected: datetime.datetime) -> None:
    """How long ago, or when; in UTC unless it says otherwise."""
    assert moment_of(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "7", "7w", "-1d", "1.5h", "tomorrow", "1٣d", "9999999d"])
def test_moment_that_is_none_is_refused(text: str) -> None:
    """With what it must be."""
    with pytest.raises(ValueError, match="must be how long ago"):
        moment_of(text, NOW)
