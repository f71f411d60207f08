"""Rubric files: what they mean in either format, and that nothing in them is ignored."""

import builtins
import json
import math

import pytest
import yaml

from grape_verified.rubrics import ExactAnswer, RegularExpression, Rubric, RubricItem, UnitTests, load_rubrics

TOML = r"""
[[rubrics]]
category = "mathematics"

[[rubrics.items]]
text = "The final answer is right."
weight = 3
verifier = "exact_answer"
options = { pattern = 'Answer: (.+)', ignore_case = true }

[[rubrics.items]]
text = "Each step follows from the one before."
weight = 1.5

[[rubrics]]
category = "code"

[[rubrics.items]]
text = "It is a function."
weight = 1
verifier = "regular_expression"
options.pattern = '\bdef\b'

[[rubrics.items]]
text = "The tests pass."
weight = 2
verifier = "unit_tests"

[[rubrics.items]]
text = "It is short."
weight = 0
verifier = "short"
"""

YAML = r"""
rubrics:
  - category: mathematics
    items:
      - text: The final answer is right.
        weight: 3
        verifier: exact_answer
        options: {pattern: 'Answer: (.+)', ignore_case: true}
      - text: Each step follows from the one before.
        weight: 1.5
  - category: code
    items:
      - {text: It is a function., weight: 1, verifier: regular_expression, options: {pattern: '\bdef\b'}}
      - {text: The tests pass., weight: 2, verifier: unit_tests}
      - {text: It is short., weight: 0, verifier: short}
"""


def short(prompt, response, reference):
    return len(response) < 100


def written(folder, suffix, text):
    path = folder / f"rubrics{suffix}"
    path.write_text(text, encoding="utf-8")
    return path


def to_toml(value):
    """A value in TOML's notation for values."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {to_toml(entry)}' for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


def dumped(document, suffix):
    """A document in either format."""
    if suffix == ".toml":
        return "\n".join(f'"{key}" = {to_toml(value)}' for key, value in document.items())
    return yaml.safe_dump(document, sort_keys=False)


@pytest.mark.parametrize(("suffix", "text"), [(".toml", TOML), (".yaml", YAML), (".yml", YAML), (".TOML", TOML)])
def test_both_formats(tmp_path, suffix, text):
    rubrics = load_rubrics(written(tmp_path, suffix, text), verifiers={"short": short})
    assert list(rubrics) == ["mathematics", "code"]
    assert rubrics["mathematics"] == Rubric(
        "mathematics",
        [
            RubricItem("The final answer is right.", 3, ExactAnswer(pattern="Answer: (.+)", ignore_case=True)),
            RubricItem("Each step follows from the one before.", 1.5),
        ],
    )
    assert rubrics["code"] == Rubric(
        "code",
        (
            RubricItem("It is a function.", 1, RegularExpression(r"\bdef\b")),
            RubricItem("The tests pass.", 2, UnitTests()),
            RubricItem("It is short.", 0, short),
        ),
    )
    assert [item.verifiable for item in rubrics["mathematics"].items] == [True, False]


ITEM = {"text": "It is right.", "weight": 1}
PLACE = "rubric 1 ('a'), item 1 ('It is right.')"


def with_items(*items):
    return {"rubrics": [{"category": "a", "items": list(items)}]}


BAD = [
    ({}, "rubrics: got nothing, expected this key"),
    ({"rubric": []}, "rubric: got an unknown key, expected rubrics"),
    ({"rubrics": []}, "rubrics: got none, expected at least one"),
    ({"rubrics": {"a": []}}, "rubrics: got a table, expected a list of tables"),
    ({"rubrics": ["a"]}, "rubric 1: got 'a', expected a table with category, items"),
    ({"rubrics": [{"items": [ITEM]}]}, "rubric 1, category: got nothing, expected this key"),
    ({"rubrics": [{"category": "a"}]}, "rubric 1 ('a'), items: got nothing, expected this key"),
    (
        {"rubrics": [{"category": "a", "item": [ITEM], "items": [ITEM]}]},
        "rubric 1 ('a'), item: got an unknown key, expected category, items",
    ),
    ({"rubrics": [{"category": 3, "items": [ITEM]}]}, "rubric 1, category: got int, expected a str"),
    ({"rubrics": [{"category": " ", "items": [ITEM]}]}, "rubric 1 (' '), category: got ' ', expected non-blank text"),
    ({"rubrics": [{"category": "a", "items": ITEM}]}, "rubric 1 ('a'), items: got a table, expected a list of tables"),
    (with_items(), "rubric 1 ('a'), items: got none, expected at least one"),
    (with_items(7), "rubric 1 ('a'), item 1: got 7, expected a table with text, weight"),
    (with_items({"weight": 1}), "rubric 1 ('a'), item 1, text: got nothing, expected this key"),
    (with_items({"text": 1, "weight": 1}), "rubric 1 ('a'), item 1, text: got int, expected a str"),
    (with_items({"text": "", "weight": 1}), "item 1 (''), text: got '', expected non-blank text"),
    (with_items({"text": "It is right."}), f"{PLACE}, weight: got nothing, expected this key"),
    (
        with_items(ITEM | {"wieght": 1}),
        f"{PLACE}, wieght: got an unknown key, expected text, weight, verifier, options",
    ),
    (with_items(ITEM | {"weight": "1"}), f"{PLACE}, weight: got str, expected a finite number >= 0"),
    (with_items(ITEM | {"weight": True}), f"{PLACE}, weight: got bool, expected a finite number >= 0"),
    (with_items(ITEM | {"weight": -1}), f"{PLACE}, weight: got -1, expected a finite number >= 0"),
    (with_items(ITEM | {"weight": -0.5}), f"{PLACE}, weight: got -0.5, expected a finite number >= 0"),
    (with_items(ITEM | {"weight": math.inf}), f"{PLACE}, weight: got inf, expected a finite number >= 0"),
    (with_items(ITEM | {"weight": math.nan}), f"{PLACE}, weight: got nan, expected a finite number >= 0"),
    (with_items(ITEM | {"weight": 10**400}), f"{PLACE}, weight: got a number beyond 1.7e+38, expected a finite"),
    (with_items(ITEM, ITEM | {"text": "Other."}, ITEM), "item 3 ('It is right.'), text: got that of item 1, expected"),
    (with_items(ITEM, ITEM | {"text": "It  is\nright. "}), "text: got that of item 1, expected another"),
    (with_items(ITEM | {"weight": 0}), "rubric 1 ('a'), items: got weight 0 for all of them, expected at least one"),
    (
        with_items(ITEM | {"verifier": "exact"}),
        f"{PLACE}, verifier: got 'exact', expected one of exact_answer, regular_expression, unit_tests, short",
    ),
    (with_items(ITEM | {"verifier": True}), f"{PLACE}, verifier: got True, expected one of exact_answer"),
    (with_items(ITEM | {"options": {}}), f"{PLACE}, options: got options without a verifier"),
    (with_items(ITEM | {"verifier": "exact_answer", "options": 1}), f"{PLACE}, options: got 1, expected a table"),
    (
        with_items(ITEM | {"verifier": "exact_answer", "options": {"case": True}}),
        f"{PLACE}, options, case: got an unknown key, expected pattern, ignore_case",
    ),
    (
        with_items(ITEM | {"verifier": "exact_answer", "options": {"ignore_case": "no"}}),
        f"{PLACE}, options, ignore_case: got str, expected a bool",
    ),
    (
        with_items(ITEM | {"verifier": "exact_answer", "options": {"pattern": "Answer: .+"}}),
        f"{PLACE}, options, pattern: got 'Answer: .+' with 0 groups, expected one, the answer",
    ),
    (
        with_items(ITEM | {"verifier": "regular_expression"}),
        f"{PLACE}, options, pattern: got nothing, expected this key",
    ),
    (
        with_items(ITEM | {"verifier": "regular_expression", "options": {"pattern": "(a"}}),
        f"{PLACE}, options, pattern: got '(a', expected a regular expression: missing ), unterminated subpattern",
    ),
    (
        with_items(ITEM | {"verifier": "regular_expression", "options": {"pattern": 1}}),
        f"{PLACE}, options, pattern: got int, expected a regular expression",
    ),
    (
        with_items(ITEM | {"verifier": "unit_tests", "options": {"time_limit": 0}}),
        f"{PLACE}, options, time_limit: got 0, expected a number of seconds in (0, 2³¹)",
    ),
    (
        with_items(ITEM | {"verifier": "short", "options": {"length": 3}}),
        f"{PLACE}, options: got length, expected none for a verifier of your own",
    ),
    (
        {"rubrics": [{"category": name, "items": [ITEM]} for name in "aba"]},
        "rubric 3, category: got 'a', that of rubric 1, expected another",
    ),
]


@pytest.mark.parametrize("suffix", [".toml", ".yaml"])
@pytest.mark.parametrize(("document", "message"), BAD)
def test_nothing_is_ignored(tmp_path, suffix, document, message):
    path = written(tmp_path, suffix, dumped(document, suffix))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        load_rubrics(path, verifiers={"short": short})
    assert str(caught.value).startswith(f"{path}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "text", "message"),
    [
        (".toml", 'a = 1\nb = "', "{path}: got invalid TOML: Unterminated string (at end of document)"),
        (".toml", "a = 1\nb = ?\n", "{path}: got invalid TOML: Invalid value (at line 2, column 5)"),
        (".toml", "a = 1\na = 2\n", "{path}: got invalid TOML: Cannot overwrite a value (at line 2, column 6)"),
        (
            ".yaml",
            "rubrics:\n  - [a\n",
            "{path}, line 3, column 1: got invalid YAML: expected ',' or ']', but got '<stream end>'",
        ),
        (".yaml", "a: 1\n\tb: 2", "{path}, line 2, column 1: got invalid YAML: found character '\\t' that cannot"),
        (".yaml", "a: 1\nb:\n  c: 1\n  c: 2\n", "{path}, line 4, column 3: got invalid YAML: the key 'c' twice"),
        (".yaml", "a: 1\n---\na: 2\n", "{path}, line 2, column 1: got invalid YAML: but found another document"),
        (
            ".yaml",
            "a: &x !!python/object:os.system {}\n",
            "{path}, line 1, column 4: got invalid YAML: could not determine",
        ),
        (".yaml", "a: 2\n\nb: \x07\n", "{path}, line 3: got invalid YAML: special characters are not allowed"),
        (".yaml", "a: 2026-13-01\n", "{path}: got invalid YAML: month must be in 1..12"),
        (".yaml", "a: !!bool x\n", "{path}: got invalid YAML: 'x'"),
        (".yaml", "a: !!timestamp x\n", "{path}: got invalid YAML: "),
        (".yaml", "[" * 3000, "{path}: got invalid YAML: maximum recursion depth exceeded"),
        (".toml", "a = " + "[" * 3000, "{path}: got invalid TOML: maximum recursion depth exceeded"),
        (".toml", "a = " + "1" * 5000, "{path}: got invalid TOML: Exceeds the limit"),
        (".yaml", "", "{path}: got nothing, expected a table with rubrics"),
        (".yaml", "rubrics: null", "{path}, rubrics: got nothing, expected a list of tables"),
        (".yaml", "just text", "{path}: got 'just text', expected a table with rubrics"),
        (".yaml", "1: a\nrubrics: []", "{path}, 1: got an unknown key, expected rubrics"),
        (".json", "{}", "{path}: got the suffix '.json', expected .toml, .yaml or .yml"),
        ("", "", "{path}: got the suffix '', expected .toml, .yaml or .yml"),
    ],
)
def test_a_file_that_is_not_what_its_suffix_says(tmp_path, suffix, text, message):
    path = written(tmp_path, suffix, text)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        load_rubrics(path)
    assert str(caught.value).startswith(message.format(path=path))


@pytest.mark.parametrize("suffix", [".toml", ".yaml"])
def test_a_file_that_is_not_a_text(tmp_path, suffix):
    path = tmp_path / f"rubrics{suffix}"
    path.write_bytes(b"# \n# \xff\n")
    with pytest.raises(ValueError, match="line 2: got bytes that are not UTF-8"):
        load_rubrics(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        load_rubrics(tmp_path / "none.toml")


def test_yaml_without_pyyaml(tmp_path, monkeypatch):
    original = builtins.__import__

    def without_yaml(name, *arguments, **options):
        if name == "yaml":
            raise ModuleNotFoundError("No module named 'yaml'", name="yaml")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    expected = r"rubrics\.yaml: the package PyYAML is not installed: run pip install 'grape-verified\[transformers\]'"
    with pytest.raises(ModuleNotFoundError, match=expected):
        load_rubrics(written(tmp_path, ".yaml", YAML))
    assert load_rubrics(written(tmp_path, ".toml", TOML), verifiers={"short": short})


def test_a_verifier_of_your_own_hides_none_of_ours(tmp_path):
    path = written(tmp_path, ".toml", TOML)
    with pytest.raises(ValueError, match="verifiers: got 'unit_tests', expected a name other than exact_answer, "):
        load_rubrics(path, verifiers={"unit_tests": short})
    with pytest.raises(TypeError, match="verifiers: got int for 'short', expected a callable"):
        load_rubrics(path, verifiers={"short": 3})
    with pytest.raises(TypeError, match="verifiers: got list, expected a mapping from names to verifiers"):
        load_rubrics(path, verifiers=[short])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RubricItem(None, 1), TypeError, "text: got NoneType, expected a str"),
        (lambda: RubricItem("\n", 1), ValueError, "text: got '\\n', expected non-blank text"),
        (lambda: RubricItem("a", None), TypeError, "weight: got NoneType, expected a finite number >= 0"),
        (lambda: RubricItem("a", -1), ValueError, "weight: got -1, expected a finite number >= 0"),
        (
            lambda: RubricItem("a", 1, "exact"),
            TypeError,
            "verifier: got str, expected None or a callable (prompt, resp",
        ),
        (lambda: Rubric("", [RubricItem("a", 1)]), ValueError, "category: got '', expected non-blank text"),
        (lambda: Rubric("a", RubricItem("a", 1)), TypeError, "items: got RubricItem, expected a sequence of rubric"),
        (lambda: Rubric("a", "items"), TypeError, "items: got str, expected a sequence of rubric items"),
        (lambda: Rubric("a", ["b"]), TypeError, "items: got str for item 1, expected a RubricItem"),
        (lambda: Rubric("a", []), ValueError, "items: got none, expected at least one"),
        (
            lambda: Rubric("a", [RubricItem("long " * 20, 1)] * 2),
            ValueError,
            f"item 2 ('{('long ' * 20)[:59]}…'), text: got that of item 1, expected another",
        ),
    ],
)
def test_rubrics_made_by_hand_are_checked_too(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith(message)
