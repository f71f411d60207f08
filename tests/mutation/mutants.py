"""Mutants of a module: its source with one node changed, the way that people get kernels wrong.

Annotations, docstrings, error texts and what is outside of functions stay as they are. A mutant keeps the lines of the
source, so that a traceback points at the right one.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise


@dataclass(frozen=True)
class Key:
    """What a mutant is called for good, wherever its line moves."""

    module: str
    function: str
    line: str
    mutation: str

    def __str__(self) -> str:
        return f"{self.module}, {self.function}: {self.mutation}\n    in: {self.line}"


@dataclass(frozen=True)
class Mutant:
    """A module with one change: its key and its source."""

    key: Key
    source: str


OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip

#: Each comparison moved by one point, then turned around.
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip

#: Functions that are easily confused.
TAKEN_FOR = {
    "min": "max", "max": "min", "amin": "amax", "amax": "amin", "sum": "mean", "mean": "sum", "any": "all",
    "all": "any", "expm1": "exp", "log1p": "log", "zeros_like": "ones_like", "ones_like": "zeros_like",
    "no_grad": "enable_grad",
}  # fmt: skip

#: Methods and functions of one tensor that are forgotten.
FORGOTTEN = {
    "detach", "masked_fill", "clamp", "abs", "square", "sqrt", "exp", "expm1", "flip", "cumsum", "div_",
    "bounded", "bounded_exponent",
}  # fmt: skip

#: Whose first argument is a dimension, and whose two arguments may be exchanged.
ALONG = {"sum", "mean", "flip", "cumsum", "unsqueeze", "squeeze", "gather", "scatter", "argmax", "amax", "softmax"}
SYMMETRIC = {"min", "max", "hypot", "equal", "compute_dtype"}

#: Names of options that are easily confused.
OPTIONS = {
    "token_mean": "sequence_mean", "sequence_mean": "token_mean", "sequence_sum": "token_sum",
    "token_sum": "sequence_sum", "fixed_length": "sequence_mean", "k1": "k2", "k2": "k1", "k3": "k2",
    "mean": "leave_one_out", "leave_one_out": "mean", "std": "none", "none": "std", "sum": "mean",
    "group": "batch", "batch": "group", "best": "threshold", "threshold": "best",
}  # fmt: skip


def mutants(module: str, source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    made: list[Mutant] = []
    seen: Counter[Key] = Counter()
    for function, old, new in _changes(ast.parse(source), ()):
        if ast.unparse(new) == ast.unparse(old):
            continue
        mutant = _mutant(module, source, function, old, new)
        seen[mutant.key] += 1
        if seen[mutant.key] > 1:
            key = replace(mutant.key, mutation=f"{mutant.key.mutation}, the same no. {seen[mutant.key]}")
            mutant = Mutant(key, mutant.source)
        made.append(mutant)
    return made


def _mutant(module: str, source: str, function: str, old: ast.AST, new: ast.AST) -> Mutant:
    """The source with one node replaced; columns of the syntax tree count bytes."""
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: old.lineno - 1])) + old.col_offset
    end = sum(map(len, lines[: old.end_lineno - 1])) + old.end_col_offset
    text = ast.unparse(new)
    put = f"({text})" if isinstance(old, ast.expr) else text
    whole = b"".join(lines)
    put += "\n" * whole[start:end].count(b"\n") if not isinstance(old, ast.expr) else ""
    line = lines[old.lineno - 1].decode().strip()
    return Mutant(
        Key(module, function, line, f"{ast.unparse(old)} → {text}"),
        (whole[:start] + put.encode() + whole[end:]).decode(),
    )


def _changes(node: ast.AST, path: tuple[str, ...]) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """The function that it is in, a node, and what stands in its place."""
    if path:
        for new in _instead_of(node):
            yield ".".join(path), node, new
        if isinstance(node, ast.If | ast.While) and not isinstance(node.test, ast.Compare):
            yield ".".join(path), node.test, ast.UnaryOp(ast.Not(), node.test)
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        path = (*path, node.name)
    for child in _open(node):
        yield from _changes(child, path)


def _open(node: ast.AST) -> list[ast.AST]:
    """The children of a node in which something may be changed."""
    if isinstance(node, ast.FunctionDef):
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        defaults = [default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None]
        return [*node.decorator_list, *defaults, *body]
    if isinstance(node, ast.Module | ast.ClassDef):
        return [child for child in node.body if isinstance(child, ast.FunctionDef | ast.ClassDef)]
    if isinstance(node, ast.AnnAssign):
        return [node.value] if node.value else []
    if isinstance(node, ast.Raise | ast.JoinedStr):
        return []
    if _is_check(node):
        return [argument for argument in node.args if isinstance(argument, ast.Lambda)]
    if isinstance(node, ast.Call) and _name(node.func) in ALONG:
        return [node.func, *node.args[1:]]
    return list(ast.iter_child_nodes(node))


def _is_check(node: ast.AST) -> bool:
    """Whether a call only checks: what it is given besides is for its error texts."""
    return isinstance(node, ast.Call) and _name(node.func).lstrip("_").startswith(("check_", "isinstance"))


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


def _instead_of(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    kind = type(node)
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in OPERATORS:
        yield _with(node, op=OPERATORS[type(node.op)]())
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                yield _with(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
    elif kind is ast.Constant:
        yield from _constants(node.value)
    elif isinstance(node, ast.Call) and not _is_check(node):
        yield from _calls(node)
    elif kind is ast.IfExp:
        yield _with(node, body=node.orelse, orelse=node.body)
    elif isinstance(node, ast.AugAssign):
        yield ast.Pass()
        yield _with(node, op=OPERATORS[type(node.op)]())
    elif isinstance(node, ast.Expr) or (isinstance(node, ast.Assign) and _is_refined(node)):
        yield ast.Pass()


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _is_refined(node: ast.Assign) -> bool:
    """Whether a name is given a new value made from its old one."""
    assigned = {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    read = {name.id for name in ast.walk(node.value) if isinstance(name, ast.Name)}
    return bool(assigned) and assigned <= read


def _constants(value: object) -> Iterator[ast.AST]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, float):
        yield ast.Constant(2 * value)
        if value == 0:
            yield ast.Constant(1.0)
    elif isinstance(value, str) and value in OPTIONS:
        yield ast.Constant(OPTIONS[value])


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    """Another function, none, and the same with its arguments exchanged or one keyword less."""
    name, method = _name(node.func), isinstance(node.func, ast.Attribute)
    if name in TAKEN_FOR:
        field = "attr" if method else "id"
        yield _with(node, func=_with(node.func, **{field: TAKEN_FOR[name]}))
    if name in FORGOTTEN and (method or len(node.args) == 1):
        yield node.func.value if method else node.args[0]
    if name == "clamp":
        swapped = {"min": "max", "max": "min"}
        yield _with(node, keywords=[_with(word, arg=swapped.get(word.arg, word.arg)) for word in node.keywords])
    for i, (a, b) in enumerate(pairwise(node.args)):
        if _may_be_exchanged(name, i, a, b):
            yield _with(node, args=[*node.args[:i], b, a, *node.args[i + 2 :]])
    words = node.keywords
    for i, (a, b) in enumerate(pairwise(words)):
        if name != "clamp" and a.arg and b.arg:
            exchanged = [_with(a, value=b.value), _with(b, value=a.value)]
            yield _with(node, keywords=[*words[:i], *exchanged, *words[i + 2 :]])
    for i, word in enumerate(words):
        if word.arg:
            yield _with(node, keywords=[*words[:i], *words[i + 1 :]])


def _may_be_exchanged(name: str, place: int, a: ast.expr, b: ast.expr) -> bool:
    """Whether two arguments could be taken for each other: not a number for a tensor, nor a condition for a value."""
    if name in SYMMETRIC or (name == "where" and place == 0):
        return False
    return isinstance(a, ast.Constant) == isinstance(b, ast.Constant) and not {type(a), type(b)} & {ast.Starred}
