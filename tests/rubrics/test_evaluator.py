"""From responses and rubrics to tensors: each entry in its place, and every fault named."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from grape_verified.rubrics import ExactAnswer, LanguageModelCritic, Rubric, RubricItem, Verdict, evaluate


def length(prompt, response, reference):
    return len(response) / 10


def told(prompt, response, reference):
    """A verifier that returns its reference."""
    return reference


RUBRICS = {
    "code": Rubric("code", [RubricItem("It runs.", 1.0)]),
    "answer": Rubric(
        "answer",
        [
            RubricItem("It is right.", 2, ExactAnswer()),
            RubricItem("It is clear.", 0.5),
            RubricItem("It is long.", 0, length),
        ],
    ),
}
TOLD = {"told": Rubric("told", [RubricItem("It is so.", 1.0, told)])}
PROMPTS = ["p1", "p2", "p3"]
RESPONSES = [["42", "41"], ["run", "walk"], ["x", "42 "]]
CATEGORIES = ["answer", "code", "answer"]
REFERENCES = ["42", None, "42"]


class Recording:
    """A critic that records its calls, and gives each question its own score and confidence."""

    def __init__(self):
        self.calls = []

    def __call__(self, prompts, responses, items):
        self.calls.append(list(zip(prompts, responses, [item.text for item in items], strict=True)))
        return [Verdict(*SAYS[question]) for question in self.calls[-1]]


SAYS = {
    ("p1", "42", "It is clear."): (0.125, 0.5, "a"),
    ("p1", "41", "It is clear."): (0.25, 1.0, "b"),
    ("p2", "run", "It runs."): (1, 0, "c"),
    ("p2", "walk", "It runs."): (0.375, 0.25, "d"),
    ("p3", "x", "It is clear."): (0.0, 0.75, "e"),
    ("p3", "42 ", "It is clear."): (np.float32(0.625), 0.875, "f"),
}

run = partial(evaluate, PROMPTS, RESPONSES, RUBRICS, CATEGORIES, references=REFERENCES)


def test_every_entry_is_in_its_place():
    found = run(critic=Recording())
    expected = [
        [[1, 0.125, 0.2], [0, 0.25, 0.2]],
        [[1, 0, 0], [0.375, 0, 0]],
        [[0, 0, 0.1], [1, 0.625, 0.3]],
    ]
    assert found.scores.equal(torch.tensor(expected))
    expected = [
        [[1, 0.5, 1], [1, 1, 1]],
        [[0, 0, 0], [0.25, 0, 0]],
        [[1, 0.75, 1], [1, 0.875, 1]],
    ]
    assert found.confidences.equal(torch.tensor(expected))
    assert found.weights.equal(torch.tensor([[2, 0.5, 0], [1, 0, 0], [2, 0.5, 0]]))
    assert found.item_mask.equal(torch.tensor([[True] * 3, [True, False, False], [True] * 3]))
    assert found.categories.equal(torch.tensor([1, 0, 1]))
    assert found.reasons == [
        [["ExactAnswer: 1", "a", "length: 0.2"], ["ExactAnswer: 0", "b", "length: 0.2"]],
        [["c"], ["d"]],
        [["ExactAnswer: 0", "e", "length: 0.1"], ["ExactAnswer: 1", "f", "length: 0.3"]],
    ]
    assert [tensor.dtype for tensor in found[:3]] == [torch.float32] * 3


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 6), (4, [4, 2]), (6, [6]), (32, [6])])
def test_as_few_calls_of_the_critic_as_the_batch_size_allows(batch_size, sizes):
    critic = Recording()
    found = run(critic=critic, batch_size=batch_size)
    assert [len(call) for call in critic.calls] == sizes
    assert [question for call in critic.calls for question in call] == list(SAYS)
    expected = run(critic=Recording())
    assert all(one.equal(other) for one, other in zip(found[:5], expected[:5], strict=True))
    assert found.reasons == expected.reasons


def test_without_judged_items_no_critic_is_needed_or_called():
    verified = {"answer": Rubric("answer", [RubricItem("It is right.", 2, ExactAnswer())])}
    critic = Recording()
    for given in (None, critic):
        found = evaluate(["p"], [["1", "2"]], verified, ["answer"], references=["2"], critic=given)
        assert found.scores.tolist() == [[[0], [1]]]
        assert found.confidences.tolist() == [[[1], [1]]]
    assert critic.calls == []


@pytest.mark.parametrize("score", [True, False, np.True_, 0, 1, 0.25, np.float32(0.25), np.int64(1)])
def test_scores_of_a_verifier(score):
    assert evaluate(["p"], [["r"]], TOLD, ["told"], references=[score]).scores.item() == float(score)


PLACE = "prompt 2, response 1, item 1 ('It is so.')"


@pytest.mark.parametrize(
    ("score", "error", "message"),
    [
        (1.5, ValueError, "got 1.5, expected a number in [0, 1]"),
        (-0.1, ValueError, "got -0.1, expected a number in [0, 1]"),
        (math.nan, ValueError, "got nan, expected a number in [0, 1]"),
        (None, TypeError, "got NoneType, expected a number in [0, 1]"),
        ("1", TypeError, "got str, expected a number in [0, 1]"),
        (1j, TypeError, "got complex, expected a number in [0, 1]"),
    ],
)
def test_a_wrong_score_of_a_verifier(score, error, message):
    with pytest.raises(error) as caught:
        evaluate(["p", "q"], [["r"], ["s"]], TOLD, ["told"] * 2, references=[0, score])
    assert str(caught.value) == f"{PLACE}: the verifier's score: {message}"


def test_a_verifier_that_raises_is_no_score_of_0():
    with pytest.raises(RuntimeError) as caught:
        run(critic=Recording(), references=["42", None, None])
    assert str(caught.value) == (
        "prompt 3, response 1, item 1 ('It is right.'): the verifier raised TypeError: reference: got NoneType, "
        "expected a str, the answer"
    )
    assert isinstance(caught.value.__cause__, TypeError)


def saying(*verdicts):
    return lambda prompts, responses, items: verdicts[0] if len(verdicts) == 1 else list(verdicts)


def raising(prompts, responses, items):
    raise KeyError("no model")


GOOD = Verdict(0.5, 0.5)
SECOND = "prompt 1, response 2, item 2 ('It is clear.')"
BATCH = "prompt 1, response 1, item 2 ('It is clear.') to prompt 2, response 1, item 1 ('It runs.')"


@pytest.mark.parametrize(
    ("critic", "error", "message"),
    [
        (
            saying(GOOD, Verdict(1.01, 1), GOOD),
            ValueError,
            f"{SECOND}: the critic's score: got 1.01, expected a number",
        ),
        (saying(GOOD, Verdict(1, -0.5), GOOD), ValueError, f"{SECOND}: the critic's confidence: got -0.5, expected a"),
        (saying(GOOD, Verdict(1, math.nan), GOOD), ValueError, f"{SECOND}: the critic's confidence: got nan, expected"),
        (
            saying(GOOD, Verdict("1", 1), GOOD),
            TypeError,
            f"{SECOND}: the critic's score: got str, expected a number in",
        ),
        (saying(GOOD, Verdict(1, True), GOOD), TypeError, f"{SECOND}: the critic's confidence: got bool, expected a"),
        (
            saying(GOOD, Verdict(1, 1, None), GOOD),
            TypeError,
            f"{SECOND}: the critic's reason: got NoneType, expected a",
        ),
        (saying(GOOD, (1.0, 1.0), GOOD), TypeError, f"{SECOND}: the critic returned tuple, expected a Verdict"),
        (saying(GOOD, GOOD), ValueError, f"{BATCH}: the critic returned 2 verdicts, expected 3"),
        (saying(None), TypeError, f"{BATCH}: the critic returned NoneType, expected a sequence of verdicts"),
        (saying("yes"), TypeError, f"{BATCH}: the critic returned str, expected a sequence of verdicts"),
        (raising, RuntimeError, f"{BATCH}: the critic raised KeyError: 'no model'"),
    ],
)
def test_a_wrong_critic(critic, error, message):
    with pytest.raises(error) as caught:
        run(critic=critic, batch_size=3)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prompts": "p"}, TypeError, "prompts: got str, expected a sequence"),
        ({"prompts": []}, ValueError, "prompts: got none, expected at least one"),
        ({"prompts": ["p", 1, "p"]}, TypeError, "prompts: got int in place 2, expected a str"),
        ({"responses": RESPONSES[:2]}, ValueError, "responses: got 2, expected 3, one for each prompt"),
        ({"responses": "abc"}, TypeError, "responses: got str, expected a sequence"),
        ({"responses": ["ab", "cd", "ef"]}, TypeError, "responses, prompt 1: got str, expected a sequence"),
        ({"responses": [["a"], [], ["b"]]}, ValueError, "responses, prompt 2: got none, expected at least one"),
        (
            {"responses": [["a"], [None], ["b"]]},
            TypeError,
            "responses, prompt 2: got NoneType in place 1, expected a str",
        ),
        (
            {"responses": [["a"], ["b"], ["c", "d"]]},
            ValueError,
            "responses: got 2 for prompt 3, expected 1, as for prompt",
        ),
        (
            {"rubrics": list(RUBRICS.values())},
            TypeError,
            "rubrics: got list, expected a mapping from category to Rubric",
        ),
        ({"rubrics": {"code": []}}, TypeError, "rubrics: got list for 'code', expected a Rubric"),
        (
            {"rubrics": {"a": RUBRICS["code"]}},
            ValueError,
            "rubrics: got the rubric of 'code' for 'a', expected its own",
        ),
        (
            {"rubrics": {}},
            ValueError,
            "categories: got 'answer' for prompt 1, expected one of a category, but there is",
        ),
        (
            {"categories": ["code", "art", "code"]},
            ValueError,
            "categories: got 'art' for prompt 2, expected one of 'code'",
        ),
        ({"categories": ["code"]}, ValueError, "categories: got 1, expected 3, one for each prompt"),
        ({"categories": "cod"}, TypeError, "categories: got str, expected a sequence"),
        ({"references": ["42"]}, ValueError, "references: got 1, expected 3, one for each prompt"),
        ({"references": "42 "}, TypeError, "references: got str, expected a sequence"),
        ({"critic": "gpt"}, TypeError, "critic: got str, expected None or a callable (prompts, responses, items)"),
        (
            {"critic": None},
            ValueError,
            "critic: got None, expected one for items without a verifier, such as: prompt 1, response 1, item 3 ('It",
        ),
        ({"batch_size": 0}, ValueError, "batch_size: got 0, expected an integer > 0"),
        ({"batch_size": 2.0}, TypeError, "batch_size: got float, expected an integer > 0"),
        ({"batch_size": True}, TypeError, "batch_size: got bool, expected an integer > 0"),
    ],
)
def test_wrong_arguments_before_any_work(arguments, error, message):
    calls = []

    def counting(prompt, response, reference):
        calls.append(response)
        return 1.0

    rubrics = {
        "code": RUBRICS["code"],
        "answer": Rubric("answer", [RubricItem("x", 1, counting), *RUBRICS["answer"].items]),
    }
    critic = Recording()
    given = {"prompts": PROMPTS, "responses": RESPONSES, "rubrics": rubrics, "categories": CATEGORIES, "critic": critic}
    given = given | {"references": REFERENCES} | arguments
    with pytest.raises(error) as caught:
        evaluate(**given)
    assert str(caught.value).startswith(message)
    assert calls == critic.calls == []


def test_a_text_of_any_kind_is_judged(model, tokenizer):
    """Lone surrogates aside, nothing that a model may write is refused."""
    responses = [["", "\x00", "😀 naïve \u202e", "{0} %s <s>", "a\r\nb"]]
    rubrics = {"a": Rubric("a", [RubricItem("It is polite.", 1)])}
    found = evaluate(["p"], responses, rubrics, ["a"], critic=LanguageModelCritic(model, tokenizer))
    assert ((found.scores > 0) & (found.scores < 1)).all()
