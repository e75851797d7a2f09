"""Making mutants: one small change of a syntax tree at a time. Pure."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from types import CodeType
from typing import Any

import attrs

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
"""Each comparison and the neighbour it is mistaken for."""

ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}

LONGEST_SHOWN = 80
"""Characters of an expression in a report."""

ANNOTATIONS = {"annotation", "returns"}
"""Fields of a node that hold types, which say nothing of what runs."""


@attrs.frozen
class Mutant:
    """A module with one change.

    Attributes:
        line: where, counted from 1.
        before: the smallest expression that shows the change.
        after: what it was changed to.
    """

    line: int
    before: str
    after: str
    code: CodeType = attrs.field(repr=False, eq=False)


@attrs.frozen
class _Change:
    node: ast.expr | ast.AugAssign
    field: str
    value: Any
    shown: ast.AST


def mutants_of(source: str, filename: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines.

    Raises:
        SyntaxError: the source is not Python.
    """
    tree = ast.parse(source, filename)
    for change in sorted(_changes(tree), key=lambda change: _place(change.node)):
        node, field = change.node, change.field
        before, original = ast.unparse(change.shown), getattr(node, field)
        setattr(node, field, change.value)
        try:
            fixed = ast.fix_missing_locations(copy.deepcopy(tree))
            code = compile(fixed, filename, "exec")
            yield Mutant(node.lineno, before, ast.unparse(change.shown), code)
        finally:
            setattr(node, field, original)


def _place(node: ast.expr | ast.AugAssign) -> tuple[int, int, int, int]:
    """Where a node begins; of those that begin together, the longest is the first."""
    return node.lineno, node.col_offset, -(node.end_lineno or 0), -(node.end_col_offset or 0)


def _changes(node: ast.AST, parent: ast.AST | None = None) -> Iterator[_Change]:
    yield from _changes_here(node, _shown(node, parent))
    for field, value in ast.iter_fields(node):
        if field in ANNOTATIONS or (field == "slice" and _is_type(node)):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _changes(child, node)


def _shown(node: ast.AST, parent: ast.AST | None) -> ast.AST:
    """A number alone says nothing: what it stands in, where that is short enough to read."""
    if not isinstance(node, ast.Constant) or parent is None:
        return node
    text = ast.unparse(parent)
    return node if "\n" in text or len(text) > LONGEST_SHOWN else parent


def _is_type(node: ast.AST) -> bool:
    """Whether a subscript names a type, such as ``deque[float]``: those never hold an index."""
    return isinstance(node, ast.Subscript) and not any(
        isinstance(part, ast.Constant | ast.Compare | ast.BinOp | ast.UnaryOp | ast.Slice)
        for part in ast.walk(node.slice)
    )


def _changes_here(node: ast.AST, shown: ast.AST) -> Iterator[_Change]:
    match node:
        case ast.Compare(ops=ops):
            for place, operator in enumerate(ops):
                neighbour = COMPARISONS[type(operator)]()
                changed = [*ops[:place], neighbour, *ops[place + 1 :]]
                yield _Change(node, "ops", changed, shown)
        case ast.BoolOp(op=operator):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield _Change(node, "op", other, shown)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            # Twice not is none, and leaves the node where it is.
            yield _Change(node, "operand", ast.UnaryOp(ast.Not(), operand), shown)
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator):
            if type(operator) in ARITHMETIC:
                yield _Change(node, "op", ARITHMETIC[type(operator)](), shown)
        case ast.Constant(value=int() | float() as value):
            if not isinstance(value, bool) and value in (0, 1):
                yield _Change(node, "value", value + 1, shown)
