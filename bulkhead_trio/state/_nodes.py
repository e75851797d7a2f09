"""The connections of one time that Redis was there: one to a server, or one to each of a cluster.

A cluster is asked for its slots when it is connected to. Whoever is sent elsewhere by ``MOVED``
learns that slot's new node; whoever meets a node that is gone ends this time, and the next one
begins by asking again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import trio
from coredis.exceptions import (
    AskError,
    MovedError,
    NoScriptError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from bulkhead_trio.state._address_rules import RedisAddress, slot_of
from bulkhead_trio.state._commands import Command, Script
from bulkhead_trio.state._link import Link

MOST_REDIRECTIONS = 3
"""Times that one command is sent on: a slot that moves takes one, and one more for bad luck."""

ASKING = Command(b"ASKING", (), b"")

Node = tuple[str, int]


class Nodes:
    """Sends each command to where its key is.

    Args:
        nursery: in which connections live.
        address: of Redis, or of one node of the cluster.
        name: by which Redis knows our connections.
        scripts: loaded into every node that is connected to.

    Attributes:
        lost: set once one of the connections is of no use any more.
        is_cluster: whether there may be several nodes.
    """

    def __init__(
        self, nursery: trio.Nursery, address: RedisAddress, name: str, scripts: Sequence[Script]
    ) -> None:
        self.lost = trio.Event()
        self.is_cluster = False
        self._nursery = nursery
        self._address = address
        self._name = name
        self._scripts = scripts
        self._seed: Link | None = None
        self._links: dict[Node, Link] = {}
        self._slots: dict[int, Node] = {}

    @property
    def connections(self) -> int:
        """How many are open."""
        return len({id(link) for link in (self._seed, *self._links.values()) if link is not None})

    @property
    def addresses(self) -> list[RedisAddress]:
        """Of the nodes of a cluster."""
        return [self._address.at(*node) for node in self._links]

    # --- connecting ------------------------------------------------------------------------------

    async def open(self, answer_seconds: float) -> Link:
        """Connect to Redis, and to every node where it is a cluster; answers with the first one.

        Args:
            answer_seconds: what Redis may take for an answer.

        Raises:
            OSError: nobody is there.
            RedisError: Redis refuses us.
            TimeoutError: it did not answer in time.
        """
        seed = self._seed = await self._link(self._address)
        if self._address.is_cluster is None:
            command = Command(b"INFO", (b"cluster",), b"")
            (answer,) = await seed.ask([command], trio.current_time() + answer_seconds)
            self.is_cluster = b"cluster_enabled:1" in checked_text(answer)
        else:
            self.is_cluster = self._address.is_cluster
        if self.is_cluster:
            await self._connect_cluster(seed, answer_seconds)
        for link in self._links.values() if self.is_cluster else (seed,):
            await self._load(link, answer_seconds)
        return seed

    async def _connect_cluster(self, seed: Link, answer_seconds: float) -> None:
        command = Command(b"CLUSTER", (b"SLOTS",), b"")
        (ranges,) = await seed.ask([command], trio.current_time() + answer_seconds)
        for first, last, (host, port, *_), *_replicas in checked(ranges):
            # A node that does not know its own address leaves it to us, who have just used one.
            node = (host.decode() if host else self._address.host, int(port))
            for slot in range(first, last + 1):
                self._slots[slot] = node
            if node == (self._address.host, self._address.port):
                self._links[node] = seed
            elif node not in self._links:
                self._links[node] = await self._link(self._address.at(*node))
        if not self._slots:
            raise ResponseError("the cluster serves no slots")

    async def _link(self, address: RedisAddress) -> Link:
        link = await Link.open(self._nursery, address, self._name)
        self._nursery.start_soon(self._watch, link)
        return link

    async def _watch(self, link: Link) -> None:
        await link.lost.wait()
        self.lost.set()

    async def _load(self, link: Link, answer_seconds: float) -> None:
        if not self._scripts:
            return
        commands = [Command(b"SCRIPT", (b"LOAD", each.source), b"") for each in self._scripts]
        for answer in await link.ask(commands, trio.current_time() + answer_seconds):
            checked(answer)

    # --- asking ----------------------------------------------------------------------------------

    async def ask(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """The answers to ``commands``, all sent at once; a `RedisError` in place of one is one too.

        Raises:
            RedisError: a connection is lost.
            TimeoutError: the deadline has passed.
        """
        if self._seed is not None and not self.is_cluster:
            answers = await self._seed.ask(commands, deadline)
        else:
            answers = await self._ask_nodes(commands, deadline)
        for number, answer in enumerate(answers):
            if isinstance(answer, RedisError):
                answers[number] = await self._again(commands[number], answer, deadline)
        return answers

    async def _ask_nodes(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        numbers: defaultdict[Node, list[int]] = defaultdict(list)
        for number, command in enumerate(commands):
            numbers[self._node_of(command)].append(number)
        answers: list[Any] = [None] * len(commands)

        async def ask_one(node: Node, those: list[int]) -> None:
            link = await self._link_by(node, deadline)
            for number, answer in zip(
                those, await link.ask([commands[n] for n in those], deadline), strict=True
            ):
                answers[number] = answer

        if len(numbers) == 1:
            ((node, those),) = numbers.items()
            await ask_one(node, those)
        else:
            errors: list[Exception] = []

            async def ask_beside(node: Node, those: list[int]) -> None:
                try:
                    await ask_one(node, those)
                except (RedisError, OSError) as error:
                    errors.append(error)

            async with trio.open_nursery() as nursery:
                for node, those in numbers.items():
                    nursery.start_soon(ask_beside, node, those)
            if errors:
                raise errors[0]
        return answers

    def _node_of(self, command: Command) -> Node:
        node = self._slots.get(slot_of(command.key))
        if node is None:
            raise ResponseError("no node of the cluster serves this slot")
        return node

    async def _link_to(self, node: Node) -> Link:
        link = self._links.get(node)
        if link is None:
            link = self._links[node] = await self._link(self._address.at(*node))
        return link

    async def _again(self, command: Command, error: RedisError, deadline: float) -> Any:
        """Send ``command`` once more, to where or as Redis wants it; or else ``error`` again."""
        for _ in range(MOST_REDIRECTIONS):
            before: list[Command] = []
            if isinstance(error, NoScriptError):
                command = command.with_source()
                link = self._link_of(command)
            elif isinstance(error, MovedError):
                node = self._slots[slot_of(command.key)] = (error.host, error.port)
                link = await self._link_by(node, deadline)
            elif isinstance(error, AskError):
                link = await self._link_by((error.host, error.port), deadline)
                before = [ASKING]
            elif isinstance(error, TryAgainError):
                link = self._link_of(command)
            else:
                break
            answer = (await link.ask([*before, command], deadline))[-1]
            if not isinstance(answer, RedisError):
                return answer
            error = answer
        return error

    def _link_of(self, command: Command) -> Link:
        if self.is_cluster:
            return self._links[self._node_of(command)]
        assert self._seed is not None  # noqa: S101  asked only when open
        return self._seed

    async def _link_by(self, node: Node, deadline: float) -> Link:
        with trio.CancelScope(deadline=deadline):
            return await self._link_to((node[0] or self._address.host, node[1]))
        raise TimeoutError("a node of the cluster could not be connected to in time")


def checked(answer: Any) -> Any:
    """What Redis answered.

    Raises:
        RedisError: that is an error.
    """
    if isinstance(answer, BaseException):
        raise answer
    return answer


def checked_text(answer: Any) -> bytes:
    """As `checked`, of a text; RESP3 has a second kind, with a word in front."""
    found = checked(answer)
    return found if isinstance(found, bytes) else str(found).encode()
