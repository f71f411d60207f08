"""Rubrics: the items on which responses of a capability category are scored, and files of them."""

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from grape_verified.arguments import NON_NEGATIVE, check_number
from grape_verified.rubrics.verifiers import VERIFIERS, Verifier

__all__ = ["Rubric", "RubricItem", "load_rubrics"]


@dataclass(frozen=True)
class RubricItem:
    """One concrete requirement on a response, with its importance.

    Arguments:
        text: the requirement in words, which a critic reads.
        weight: w_q, a finite number >= 0.
        verifier: a callable (prompt, response, reference) that scores the item, which is then verifiable; or None for
            an item that a critic judges.

    Raises: TypeError or ValueError for a wrong type or value.
    """

    text: str
    weight: float
    verifier: Verifier | None = None

    def __post_init__(self) -> None:
        check_text("text", self.text)
        check_number("weight", self.weight, NON_NEGATIVE)
        if self.verifier is not None and not callable(self.verifier):
            expected = "None or a callable (prompt, response, reference)"
            raise TypeError(f"verifier: got {type(self.verifier).__name__}, expected {expected}")

    @property
    def verifiable(self) -> bool:
        """Whether the item is scored by a verifier rather than a critic."""
        return self.verifier is not None


@dataclass(frozen=True)
class Rubric:
    """The items of one capability category.

    Arguments:
        category: its name.
        items: at least one, with different texts (up to whitespace), not all of weight 0.

    Raises: TypeError or ValueError for a wrong type or value. Items are counted from 1.
    """

    category: str
    items: Sequence[RubricItem]

    def __post_init__(self) -> None:
        check_text("category", self.category)
        if isinstance(self.items, str) or not isinstance(self.items, Sequence):
            raise TypeError(f"items: got {type(self.items).__name__}, expected a sequence of rubric items")
        object.__setattr__(self, "items", tuple(self.items))
        if not self.items:
            raise ValueError("items: got none, expected at least one")
        first: dict[str, int] = {}
        for position, item in enumerate(self.items, 1):
            if not isinstance(item, RubricItem):
                raise TypeError(f"items: got {type(item).__name__} for item {position}, expected a RubricItem")
            earlier = first.setdefault(" ".join(item.text.split()), position)
            if earlier != position:
                raise ValueError(
                    f"{item_place(position, item.text)}, text: got that of item {earlier}, expected another"
                )
        if not any(item.weight for item in self.items):
            raise ValueError("items: got weight 0 for all of them, expected at least one weight > 0")


def load_rubrics(path: str | os.PathLike[str], *, verifiers: Mapping[str, Verifier] | None = None) -> dict[str, Rubric]:
    """Read the rubrics of a TOML or YAML file, by category, in the order of the file.

    The file holds a list `rubrics` of tables with `category` and a list `items`; an item has `text`, `weight`, and, if
    it is verifiable, the name of a `verifier` with its `options`:

        [[rubrics]]
        category = "mathematics"

        [[rubrics.items]]
        text = "The final answer is right."
        weight = 3
        verifier = "exact_answer"
        options = { pattern = 'Answer: (.+)' }

    Arguments:
        path: with the suffix .toml, .yaml or .yml. YAML needs the package PyYAML, and is read by its safe loader.
        verifiers: your own verifiers by name, which the file may use beside those of `VERIFIERS`. They take no options.

    Returns: a dict from category to Rubric.

    Raises: ValueError for a file that is not TOML or YAML (with the line), and for unknown, missing, duplicate or
    invalid entries (with the file, the rubric, the item and the key, counted from 1). ModuleNotFoundError for YAML
    without PyYAML; OSError for a file that cannot be read.
    """
    makers = _makers({} if verifiers is None else verifiers)
    document = _table(_parse(Path(path)), str(path), required=("rubrics",))
    rubrics: dict[str, Rubric] = {}
    for position, value in enumerate(_list(document["rubrics"], f"{path}, rubrics"), 1):
        rubric = _rubric(value, f"{path}, rubric {position}", makers)
        if rubric.category in rubrics:
            earlier = f"that of rubric {list(rubrics).index(rubric.category) + 1}"
            raise ValueError(
                f"{path}, rubric {position}, category: got {rubric.category!r}, {earlier}, expected another"
            )
        rubrics[rubric.category] = rubric
    if not rubrics:
        raise ValueError(f"{path}, rubrics: got none, expected at least one")
    return rubrics


def check_text(name: str, value: object) -> None:
    """Check that a value is a str that is not blank."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: got {type(value).__name__}, expected a str")
    if not value.strip():
        raise ValueError(f"{name}: got {value!r}, expected non-blank text")


def item_place(position: int, text: object) -> str:
    """The name of an item in errors: its position, counted from 1, and the beginning of its text."""
    if not isinstance(text, str):
        return f"item {position}"
    return f"item {position} ({text if len(text) <= 60 else text[:59] + '…'!r})"


# -- from tables to rubrics --------------------------------------------------------------------------------------------


def _makers(verifiers: Mapping[str, Verifier]) -> dict[str, Callable[[Mapping[str, object]], Verifier]]:
    """Functions that make a verifier from its options, by the names that a file may use."""
    if not isinstance(verifiers, Mapping):
        raise TypeError(f"verifiers: got {type(verifiers).__name__}, expected a mapping from names to verifiers")
    for name, verifier in verifiers.items():
        check_text("verifiers", name)
        if name in VERIFIERS:
            raise ValueError(f"verifiers: got {name!r}, expected a name other than {', '.join(VERIFIERS)}")
        if not callable(verifier):
            raise TypeError(f"verifiers: got {type(verifier).__name__} for {name!r}, expected a callable")
    shipped = {name: _with_options(kind) for name, kind in VERIFIERS.items()}
    return shipped | {name: _without_options(verifier) for name, verifier in verifiers.items()}


def _with_options(kind: Any) -> Callable[[Mapping[str, object]], Verifier]:
    known = [field.name for field in fields(kind)]
    required = [field.name for field in fields(kind) if field.default is MISSING]

    def make(options: Mapping[str, Any]) -> Verifier:
        _check_keys(options, "options", required, known)
        return _placed("options", partial(kind, **options))  # type: ignore[no-any-return]

    return make


def _without_options(verifier: Verifier) -> Callable[[Mapping[str, object]], Verifier]:
    def make(options: Mapping[str, object]) -> Verifier:
        if options:
            raise ValueError(f"options: got {', '.join(map(str, options))}, expected none for a verifier of your own")
        return verifier

    return make


def _rubric(value: object, place: str, makers: Mapping[str, Callable[..., Verifier]]) -> Rubric:
    if isinstance(value, dict) and isinstance(value.get("category"), str):
        place = f"{place} ({value['category']!r})"
    table = _table(value, place, required=("category", "items"))
    items = [_item(item, place, n, makers) for n, item in enumerate(_list(table["items"], f"{place}, items"), 1)]
    return _placed(place, Rubric, table["category"], items)


def _item(value: object, place: str, position: int, makers: Mapping[str, Callable[..., Verifier]]) -> RubricItem:
    text = value.get("text") if isinstance(value, dict) else None
    place = f"{place}, {item_place(position, text)}"
    table = _table(value, place, required=("text", "weight"), optional=("verifier", "options"))
    return _placed(place, RubricItem, table["text"], table["weight"], _verifier(table, place, makers))


def _verifier(table: dict[str, Any], place: str, makers: Mapping[str, Callable[..., Verifier]]) -> Verifier | None:
    if "verifier" not in table:
        if "options" in table:
            raise ValueError(f"{place}, options: got options without a verifier, expected the key verifier as well")
        return None
    name, options = table["verifier"], table.get("options", {})
    if not isinstance(name, str) or name not in makers:
        raise ValueError(f"{place}, verifier: got {name!r}, expected one of {', '.join(makers)}")
    if not isinstance(options, dict):
        raise ValueError(f"{place}, options: got {_kind(options)}, expected a table")
    return _placed(place, makers[name], options)


def _placed(place: str, make: Callable[..., Any], *arguments: object) -> Any:
    """Make something, with the place in the file added to its errors."""
    try:
        return make(*arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}, {error}") from None


def _table(value: object, place: str, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: got {_kind(value)}, expected a table with {', '.join(required)}")
    _check_keys(value, place, required, [*required, *optional])
    return value


def _check_keys(table: Mapping[Any, object], place: str, required: Sequence[str], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise ValueError(f"{place}, {key}: got an unknown key, expected {', '.join(known)}")
    for key in required:
        if key not in table:
            raise ValueError(f"{place}, {key}: got nothing, expected this key")


def _list(value: object, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{place}: got {_kind(value)}, expected a list of tables")
    return value


def _kind(value: object) -> str:
    """The kind of a value, in the terms of the file."""
    kinds = {dict: "a table", list: "a list", type(None): "nothing"}
    return kinds.get(type(value), repr(value))


# -- from files to tables ----------------------------------------------------------------------------------------------


def _parse(path: Path) -> object:
    parsers = {".toml": _parse_toml, ".yaml": _parse_yaml, ".yml": _parse_yaml}
    parse = parsers.get(path.suffix.lower())
    if parse is None:
        raise ValueError(f"{path}: got the suffix {path.suffix!r}, expected .toml, .yaml or .yml")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: got bytes that are not UTF-8, expected text") from None
    return parse(path, text)


def _parse_toml(path: Path, text: str) -> object:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for integers with too many digits
        raise ValueError(f"{path}: got invalid TOML: {error}") from None


def _parse_yaml(path: Path, text: str) -> object:
    try:
        import yaml
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{path}: the package PyYAML is not installed: run pip install 'grape-verified[transformers]', or use TOML",
            name="yaml",
        ) from None

    class Loader(yaml.SafeLoader):
        """The safe loader, but duplicate keys are errors."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} twice", key.start_mark)
                seen.add((key.tag, str(key.value)))
            return node

    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else f"{path}"
        raise ValueError(f"{place}: got invalid YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ValueError(f"{path}, line {line}: got invalid YAML: {error.reason}") from None
    except (ValueError, KeyError, AttributeError, RecursionError) as error:  # such as invalid dates
        raise ValueError(f"{path}: got invalid YAML: {error}") from None
