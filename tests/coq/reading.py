"""Reads Coq statements, so that two that differ in parentheses and in the order of sums and products are equal."""

import re

_TOKEN = re.compile(r"\s*(\(|\)|->|<->|/\\|\\/|<>|<=|>=|=>|:=|&&|\|\||[<>=+*/^~,:-]|%nat|%bool|[\w.']+)")

#: Binary operators, with how tightly they bind; those of one line bind to the right if they are in _RIGHT.
_BINARY = {"<->": 1, "->": 2, "\\/": 3, "/\\": 4, "=": 6, "<>": 6, "<": 6, "<=": 6, ">": 6, ">=": 6, "||": 7, "&&": 8,
           "+": 9, "-": 9, "*": 10, "/": 10, "^": 12}  # fmt: skip
_RIGHT = {"->", "\\/", "/\\", "^"}
_ENDS = {")", ",", ":", "=>", ":=", "in", "then", "else", "end", "with"}


def read(text):
    """The tree of a proposition or term."""
    tokens, position = [], 0
    text = text.strip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        assert found, text[position : position + 40]
        position = found.end()
        if not found[1].startswith("%"):  # which numbers are natural is clear from where they stand
            tokens.append(found[1])
    tree, rest = _operators(tokens, 0)
    assert not rest, rest
    return tree


def _operators(tokens, least):
    if tokens[0] in ("-", "~"):
        inner, tokens = _operators(tokens[1:], 11 if tokens[0] == "-" else 5)
        left = _negated(inner) if tokens is not None else inner
    else:
        left, tokens = _application(tokens)
    while tokens and tokens[0] in _BINARY and _BINARY[tokens[0]] >= least:
        sign = tokens[0]
        right, tokens = _operators(tokens[1:], _BINARY[sign] + (sign not in _RIGHT))
        if _BINARY[sign] == 6 and left[0] in ("<=", "<") and sign in ("<=", "<"):  # 1 <= i <= n
            left = _joined("/\\", left, (sign, left[2], right))
        else:
            left = _joined(sign, left, right)
    return left, tokens


def _negated(tree):
    return ("~", tree) if tree[0] in _BINARY and _BINARY[tree[0]] < 9 else ("-", tree)


def _joined(sign, left, right):
    if sign == "-":
        sign, right = "+", ("-", right)
    if sign == "/":
        sign, right = "*", ("inverse", right)
    if sign in ("+", "*", "/\\", "\\/", "||", "&&"):
        parts = [part for side in (left, right) for part in (side[1] if side[0] == sign else (side,))]
        return (sign, tuple(sorted(parts, key=repr)))
    return (sign, left, right)


def _application(tokens):
    word = tokens[0]
    if word in ("fun", "forall"):
        cut = tokens.index("=>" if word == "fun" else ",")
        body, rest = _operators(tokens[cut + 1 :], 0)
        return (word, " ".join(token for token in tokens[1:cut] if token not in "()"), body), rest
    if word == "let":
        value, rest = _operators(tokens[3:], 0)
        body, rest = _operators(rest[1:], 0)
        return ("let", tokens[1], value, body), rest
    if word == "if":
        parts = []
        for _ in range(3):
            part, tokens = _operators(tokens[1:], 0)
            parts.append(part)
        return ("if", *parts), tokens
    found = []
    while tokens and tokens[0] not in _BINARY and tokens[0] not in _ENDS:
        if tokens[0] == "(":
            tree, tokens = _operators(tokens[1:], 0)
            assert tokens[0] == ")"
        else:
            tree = ("word", tokens[0])
        tokens = tokens[1:]
        found.append(tree)
    if len(found) == 1:
        return found[0], tokens
    head, *arguments = found
    if head in (("word", "Rmin"), ("word", "Rmax")):
        arguments.sort(key=repr)
    return ("apply", head, *arguments), tokens
