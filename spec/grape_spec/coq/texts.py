"""Trees that scripts work with, as Coq reads them. Nothing here is trusted."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

from grape_spec.coq.terms import INDICES, NoScript, Tree, avoid, free, index_text, put


def rational(q: Fraction) -> str:
    number = str(q.numerator) if q.numerator >= 0 else f"(-{-q.numerator})"
    return number if q.denominator == 1 else f"({number} / {q.denominator})"


def show(node: Tree, env: dict[str, str] | None = None) -> str:
    """The Coq term of a tree; families of ``env`` are replaced by texts."""
    env = env or {}
    if not env:
        return _show(node)
    return _print(node, env)


@lru_cache(maxsize=100_000)
def _show(node: Tree) -> str:
    return _print(node, {})


def _print(node: Tree, env: dict[str, str]) -> str:  # noqa: PLR0912 - a branch for each kind of node
    kind = node[0]
    words = {"exp": "exp", "ln": "ln", "sqrt": "sqrt", "abs": "Rabs", "min": "Rmin", "max": "Rmax", "inv": "/"}
    if kind == "q":
        return rational(node[1])
    if kind == "v":
        return str(env.get(node[1], node[1]))
    if kind == "inr":
        return f"(INR {index_text(node[1])})"
    if kind == "ap":
        return f"({env.get(node[1], node[1])} {' '.join(map(index_text, node[2]))})"
    if kind == "fn":
        return f"({' '.join([str(env.get(node[1], node[1])), *(argument_text(a, env) for a in node[2])])})"
    if kind == "rec":
        return f"({' '.join([node[1], *(_recursion_argument(a, env) for a in node[2])])})"
    if kind == "dfn":
        return _dfn(node, env)
    if kind == "neg":
        return f"(Ropp {show(node[1], env)})" if node[1][0] == "q" else f"(- {show(node[1], env)})"
    if kind in ("+", "*"):
        return f"({f' {kind} '.join(show(part, env) for part in node[1])})"
    if kind == "^":
        return f"({show(node[1], env)} ^ {node[2]})"
    if kind in words:
        return f"({' '.join([words[kind], *(show(part, env) for part in node[1:])])})"
    if kind in ("sum", "prod"):
        inner = {name: text for name, text in env.items() if name != node[2]}
        return f"({kind}1 {node[1]} (fun {node[2]} => {show(node[3], inner)}))"
    if kind == "delta":
        return f"(delta {index_text(node[1])} {index_text(node[2])})"
    if kind == "pw":
        return _cases_text(node, env)
    if kind == "diff":
        function, point = function_text(node[1], node[2], env)
        return f"(Derive {function} {point})"
    if kind == "at":
        function, point = point_text(node)
        return f"(Derive {function} {point})"
    raise NoScript(f"a term of kind {kind}")


def argument_text(node: Tree, env: dict[str, str] | None = None) -> str:
    """An argument of a function: an index or a term."""
    return index_text(node) if node[0] in INDICES else show(node, env)


def _recursion_argument(node: Tree, env: dict[str, str]) -> str:
    if node[0] == "fam":
        return env.get(node[1], str(node[1]))
    return value_text(node) if node[0] == "lam" else argument_text(node, env)


def _dfn(node: Tree, env: dict[str, str]) -> str:
    *first, last = (argument_text(a, env) for a in node[2])
    function = f"({' '.join([node[1], *first])})" if first else node[1]
    return f"(Derive {function} {last})"


def _cases_text(node: Tree, env: dict[str, str]) -> str:
    text = "0"
    for value, when in reversed(node[1]):
        text = show(value, env) if when is True else f"(if {_test(when, env)} then {show(value, env)} else {text})"
    return text


def _test(when: Any, env: dict[str, str]) -> str:
    words = {"<": "Rltb", "<=": "Rleb", "=": "Reqb"}
    sign = when[0]
    if sign in words:
        return f"({words[sign]} {show(when[1], env)} {show(when[2], env)})"
    if sign in (">", ">="):
        return _test(("<" if sign == ">" else "<=", when[2], when[1]), env)
    if sign == "<>":
        return f"(negb {_test(('=', *when[1:]), env)})"
    if sign in ("and", "or"):
        return f"({(' && ' if sign == 'and' else ' || ').join(_test(part, env) for part in when[1])})%bool"
    return f"(negb {_test(when[1], env)})"


def function_text(body: Tree, variable: Tree, env: dict[str, str] | None = None) -> tuple[str, str]:
    """The function that is differentiated and the point, as texts."""
    env = env or {}
    if variable[0] == "v":
        return f"(fun {variable[1]} => {show(body, env)})", variable[1]
    family = str(env.get(variable[1], variable[1]))
    body = avoid(body, free(variable))
    x = "x"
    while x in free(body) or x in family:
        x += "'"
    inner = {**env, variable[1]: f"({updated(variable, family)} {x})"}
    return f"(fun {x} => {show(body, inner)})", f"({family} {' '.join(map(index_text, variable[2]))})"


def updated(variable: Tree, family: str) -> str:
    count = len(variable[2])
    if count > 3:
        raise NoScript("a derivative in an entry with four indices")
    return f"upd{count if count > 1 else ''} {family} {' '.join(map(index_text, variable[2]))}"


def value_text(value: Tree) -> str:
    """What is put in for a variable or family."""
    if value[0] == "lam":
        return f"(fun {' '.join(value[1])} => {show(value[2])})"
    return str(value[1]) if value[0] == "fam" else show(value)


def given_text(value: Tree) -> str:
    """What is put in, as an argument of a theorem."""
    return index_text(value) if value[0] in INDICES else value_text(value)


def point_text(node: Tree) -> tuple[str, str]:
    """The function and the point of a derivative at another point."""
    body, variable, value = split_point(node)
    if value is None:
        return function_text(body, variable)
    if variable[0] == "v":
        return f"(fun {variable[1]} => {show(body)})", show(value)
    return function_text(body, variable, {variable[1]: value_text(value)})


def split_point(node: Tree) -> tuple[Tree, Tree, Tree | None]:
    """Body, variable and the value of what is varied (None for itself); other values are put in."""
    _, body, variable, reps = node
    value: Tree | None = None
    for name, given in reps:
        if name == variable[1]:
            value = given
        else:
            moved = put(("diff", body, variable), {name: given})
            if value is not None:
                value = put(value, {name: given})
            elif moved[0] == "at":
                value = dict(moved[3])[moved[2][1]]
            body, variable = moved[1], moved[2]
    return body, variable, value


def prop(formula: Any) -> str:
    """The Coq proposition of a condition, unfolded as :func:`show` prints terms."""
    sign = formula[0]
    if sign == "=" and formula[1][0] in ("diff", "dfn", "at", "one"):
        return _derivative_prop(formula)
    if sign in ("=", "<>", "<=", "<", ">=", ">"):
        return f"{show(formula[1])} {sign} {show(formula[2])}"
    if sign in ("and", "or"):
        return (" /\\ " if sign == "and" else " \\/ ").join(f"({prop(part)})" for part in formula[1])
    if sign == "not":
        return f"~ ({prop(formula[1])})"
    return f"({prop(formula[1])}) {'->' if sign == 'imp' else '<->'} ({prop(formula[2])})"


def _derivative_prop(formula: Any) -> str:
    left, right = formula[1:]
    if left[0] == "one":
        _, body, variable, point, side = left
        word = "slope_above" if side == 1 else "slope_below"
        return f"{word} (fun {variable[1]} => {show(body)}) {show(point)} {show(right)}"
    if left[0] == "dfn":
        *first, last = (argument_text(a) for a in left[2])
        return f"der ({' '.join([left[1], *first])}) {last} {show(right)}"
    if left[0] == "at":
        return f"{show(left)} = {show(right)}"
    function, point = function_text(*left[1:])
    return f"der {function} {point} {show(right)}"
