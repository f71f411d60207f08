"""From a file and responses to rewards: real unit tests, a real model, and every number computed independently."""

import subprocess
import sys

import pytest
import torch

from grape_verified import grape_rewards
from grape_verified.rubrics import LanguageModelCritic, evaluate, load_rubrics

TOML = r"""
[[rubrics]]
category = "mathematics"
items = [
    { text = "The answer is right.", weight = 2.0, verifier = "exact_answer", options = { pattern = 'Answer: (.*)' } },
    { text = "Each step is shown.", weight = 1.0 },
]

[[rubrics]]
category = "code"
items = [
    { text = "The tests pass.", weight = 3.0, verifier = "unit_tests" },
    { text = "It is short.", weight = 0.5 },
    { text = "It has a comment.", weight = 1.0, verifier = "regular_expression", options = { pattern = '(?m)^ *# ' } },
    { text = "It is clear.", weight = 0.25 },
]
"""

YAML = r"""
rubrics:
  - category: mathematics
    items:
      - {text: The answer is right., weight: 2, verifier: exact_answer, options: {pattern: 'Answer: (.*)'}}
      - {text: Each step is shown., weight: 1}
  - category: code
    items:
      - {text: The tests pass., weight: 3, verifier: unit_tests}
      - {text: It is short., weight: 0.5}
      - {text: It has a comment., weight: 1, verifier: regular_expression, options: {pattern: '(?m)^ *# '}}
      - {text: It is clear., weight: 0.25}
"""

PROMPTS = ["What is 1 + 2?", "Add two numbers.", "What is 2 + 2?"]
CATEGORIES = ["mathematics", "code", "mathematics"]
REFERENCES = ["3", "assert add(1, 2) == 3", "4"]
RESPONSES = [
    ["1 + 2 is 3.\nAnswer: 3", "Answer: 4", "3"],
    [
        "```python\ndef add(a, b):\n    return a + b\n```",
        "def add(a, b):\n    # Add.\n    return a - b",
        "```python\ndef add(a, b):\n    # Add.\n    return a + b\n```",
    ],
    ["Answer: 4", "Answer:  4 ", "Answer: 4, I think."],
]

#: The expected scores of the verifiers; None where a critic judges the item.
VERIFIED = [
    [[1, None], [0, None], [0, None]],
    [[1, None, 0, None], [0, None, 1, None], [1, None, 1, None]],
    [[1, None], [1, None], [0, None]],
]
ITEMS = [
    ["The answer is right.", "Each step is shown."],
    ["The tests pass.", "It is short.", "It has a comment.", "It is clear."],
    ["The answer is right.", "Each step is shown."],
]
WEIGHTS = [[2, 1], [3, 0.5, 1, 0.25], [2, 1]]

ANSWERS = {"no": 0.0, "yes": 1.0}
QUESTION = "{prompt}\n{response}\n{item} Reply yes or no.\n"

# Verdicts of fp32 models differ by rounding (measured: 2e-7), and rewards are their weighted means.
TOLERANCE = 1e-5


@pytest.mark.parametrize(("suffix", "text"), [(".toml", TOML), (".yaml", YAML)])
def test_from_a_file_to_rewards(tmp_path, model, tokenizer, ask, suffix, text):
    path = tmp_path / f"rubrics{suffix}"
    path.write_text(text, encoding="utf-8")
    critic = LanguageModelCritic(model, tokenizer, answers=ANSWERS, system_prompt="Judge.", question=QUESTION)
    found = evaluate(
        PROMPTS, RESPONSES, load_rubrics(path), CATEGORIES, references=REFERENCES, critic=critic, batch_size=5
    )

    def verdict(i, j, q):
        if VERIFIED[i][j][q] is not None:
            return VERIFIED[i][j][q], 1.0
        text = f"Judge.\n\n{PROMPTS[i]}\n{RESPONSES[i][j]}\n{ITEMS[i][q]} Reply yes or no.\n"
        return ask(model, tokenizer(text)["input_ids"], ANSWERS)[:2]

    verdicts = [[[verdict(i, j, q) for q in range(len(ITEMS[i]))] for j in range(3)] for i in range(3)]
    for i, items in enumerate(ITEMS):
        held = len(items)
        expected = torch.tensor(verdicts[i])
        torch.testing.assert_close(found.scores[i, :, :held], expected[..., 0], rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(found.confidences[i, :, :held], expected[..., 1], rtol=0, atol=TOLERANCE)
        assert found.weights[i, :held].tolist() == WEIGHTS[i]
        assert found.item_mask[i].tolist() == [True] * held + [False] * (4 - held)
        for padded in (found.scores[i, :, held:], found.confidences[i, :, held:], found.weights[i, held:]):
            assert not padded.any()
        assert [[len(reasons) for reasons in group] for group in found.reasons][i] == [held] * 3
    assert found.categories.tolist() == [0, 1, 0]
    tensors = found.scores, found.confidences, found.weights
    expected = torch.tensor([rewards(*group) for group in zip(verdicts, verdicts, WEIGHTS, strict=True)])
    got = grape_rewards(*tensors, item_mask=found.item_mask)
    torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE)
    mathematics = verdicts[0] + verdicts[2]
    pools = [mathematics, verdicts[1], mathematics]
    expected = torch.tensor([rewards(*group) for group in zip(verdicts, pools, WEIGHTS, strict=True)])
    got = grape_rewards(*tensors, item_mask=found.item_mask, confidence="batch", categories=found.categories)
    torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE)


def rewards(verdicts, pool, weights):
    """r_i = Σ_q w_q c̄_q s_iq / Σ_q w_q c̄_q of one group, number by number; c̄ is the average over a pool."""
    trust = [weight * sum(row[q][1] for row in pool) / len(pool) for q, weight in enumerate(weights)]
    return [sum(k * row[q][0] for q, k in enumerate(trust)) / sum(trust) for row in verdicts]


# -- importing ---------------------------------------------------------------------------------------------------------


IMPORTS = """
import sys

import torch, numpy, jaxtyping
theirs = set(sys.modules)
import grape_verified
plain = set(sys.modules) - theirs
import grape_verified.rubrics
print(*plain)
print(*set(sys.modules) - theirs)
"""


def test_what_is_imported():
    """PyYAML comes with a YAML file, and `transformers` with the model that a critic is given."""
    run = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    plain, all_of_it = (line.split() for line in run.stdout.splitlines())
    assert "grape_verified.rubrics.critics" in all_of_it
    assert not [name for name in plain if name.startswith("grape_verified.rubrics")]
    heavy = {"yaml", "transformers", "tokenizers", "grape_spec", "sympy", "hypothesis"}
    assert heavy.isdisjoint(name.partition(".")[0] for name in all_of_it)


ANNOTATED = """
from jaxtyping import install_import_hook

with install_import_hook("grape_verified", "beartype.beartype"):
    from grape_verified.rubrics import (
        ExactAnswer, RegularExpression, Rubric, RubricItem, UnitTests, Verdict, evaluate, load_rubrics
    )
import sys

items = [
    RubricItem("right", 1.0, ExactAnswer(pattern="(.*)")), RubricItem("x", 2.5, RegularExpression("x")),
    RubricItem("runs", 0.0, UnitTests(time_limit=60.0)), RubricItem("clear", 1.0),
]

def critic(prompts, responses, items):
    return [Verdict(0.5, 0.25, "so") for _ in prompts]

evaluate(["p"], [["x", "y"]], {"a": Rubric("a", items)}, ["a"], references=["x = 1\\nassert x"], critic=critic)
assert load_rubrics(sys.argv[1])
print("every annotation holds")
"""


def test_annotations_hold_at_run_time(tmp_path):
    path = tmp_path / "rubrics.toml"
    path.write_text(TOML, encoding="utf-8")
    program = [sys.executable, "-c", ANNOTATED, str(path)]
    result = subprocess.run(program, check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "every annotation holds"
