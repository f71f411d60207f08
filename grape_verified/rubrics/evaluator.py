"""Evaluation of responses on rubrics, as the tensors that GRAPE reads."""

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grape_verified.rubrics.critics import Critic, Verdict
from grape_verified.rubrics.rubric import Rubric, RubricItem, item_place

__all__ = ["Evaluation", "evaluate"]


class Evaluation(NamedTuple):
    """The judgements of verifiers and critic on every response, padded with 0 to the longest rubric among the prompts.

    scores, confidences: s and c in [0, 1], fp32. weights: w >= 0, fp32. item_mask: True where a prompt has an item.
    categories: the position in `rubrics` of each prompt's category. reasons: by prompt, response and item, not padded.
    """

    scores: Float[Tensor, "prompts group items"]
    confidences: Float[Tensor, "prompts group items"]
    weights: Float[Tensor, "prompts items"]
    item_mask: Bool[Tensor, "prompts items"]
    categories: Int[Tensor, " prompts"]
    reasons: list[list[list[str]]]


class Question(NamedTuple):
    """One response, and one item to score it on. In errors, prompts, responses and items are counted from 1."""

    place: tuple[int, int, int]
    prompt: str
    response: str
    reference: Any
    item: RubricItem

    def __str__(self) -> str:
        prompt, response, item = (position + 1 for position in self.place)
        return f"prompt {prompt}, response {response}, {item_place(item, self.item.text)}"


def evaluate(
    prompts: Sequence[str],
    responses: Sequence[Sequence[str]],
    rubrics: Mapping[str, Rubric],
    categories: Sequence[str],
    *,
    references: Sequence[Any] | None = None,
    critic: Critic | None = None,
    batch_size: int = 32,
) -> Evaluation:
    """Score every response to every prompt on every item of the rubric of the prompt's category.

    A verifiable item is scored by its verifier, with confidence 1. All other items of all responses go to the critic,
    in ⌈number / `batch_size`⌉ calls. `grape_rewards` takes the result:

        found = evaluate(prompts, responses, rubrics, categories, critic=critic)
        grape_rewards(found.scores, found.confidences, found.weights, item_mask=found.item_mask)

    Arguments:
        prompts: P texts, such as the last message of the user or the whole conversation.
        responses: for each prompt a group of G texts; G is the same for all.
        rubrics: by category, as `load_rubrics` returns them.
        categories: for each prompt the category that it belongs to.
        references: for each prompt the reference of its verifiers (an answer, unit tests); None for no references.
        critic: the judge of items without a verifier; None if there are no such items.
        batch_size: the largest number of judgements in one call of the critic.

    Returns: Evaluation(scores, confidences, weights, item_mask, categories, reasons), on the CPU.

    Raises: TypeError or ValueError for a wrong type, number, category or batch size and for an item without a verifier
    if there is no critic, before any work; and for a score or a confidence that is not a number in [0, 1]. RuntimeError
    if a verifier or the critic raises, which is never a score of 0. Errors name prompt, response and item, counted
    from 1.
    """
    _check_responses(prompts, responses)
    chosen = _chosen(rubrics, categories, len(prompts))
    if references is not None:
        _check_length("references", references, len(prompts))
    if critic is not None and not callable(critic):
        raise TypeError(f"critic: got {type(critic).__name__}, expected None or a callable (prompts, responses, items)")
    _check_batch_size(batch_size)
    questions = _questions(prompts, responses, chosen, references)
    judged = [question for question in questions if not question.item.verifiable]
    if judged and critic is None:
        raise ValueError(f"critic: got None, expected one for items without a verifier, such as: {judged[0]}")
    verdicts = {question.place: _verified(question) for question in questions if question.item.verifiable}
    if critic is not None:
        for start in range(0, len(judged), batch_size):
            verdicts.update(_judged(judged[start : start + batch_size], critic))
    positions = [list(rubrics).index(category) for category in categories]
    return _tensors(verdicts, chosen, positions, group=len(responses[0]))


def _questions(
    prompts: Sequence[str],
    responses: Sequence[Sequence[str]],
    chosen: Sequence[Rubric],
    references: Sequence[Any] | None,
) -> list[Question]:
    """Every item of every response, in the order of the tensors."""
    return [
        Question((i, j, q), prompts[i], response, None if references is None else references[i], item)
        for i, rubric in enumerate(chosen)
        for j, response in enumerate(responses[i])
        for q, item in enumerate(rubric.items)
    ]


def _verified(question: Question) -> Verdict:
    verifier = question.item.verifier
    assert verifier is not None
    try:
        result = verifier(question.prompt, question.response, question.reference)
    except Exception as error:
        raise RuntimeError(f"{question}: the verifier raised {type(error).__name__}: {error}") from error
    score = float(result) if isinstance(result, bool | np.bool_) else _unit(f"{question}: the verifier's score", result)
    return Verdict(score, 1.0, f"{_name(verifier)}: {score:g}")


def _judged(questions: Sequence[Question], critic: Critic) -> Iterator[tuple[tuple[int, int, int], Verdict]]:
    """The checked verdicts of the critic on one batch."""
    batch = f"{questions[0]} to {questions[-1]}"
    prompts, responses, items = ([getattr(q, name) for q in questions] for name in ("prompt", "response", "item"))
    try:
        verdicts = critic(prompts, responses, items)
    except Exception as error:
        raise RuntimeError(f"{batch}: the critic raised {type(error).__name__}: {error}") from error
    if isinstance(verdicts, str) or not isinstance(verdicts, Sequence):
        raise TypeError(f"{batch}: the critic returned {type(verdicts).__name__}, expected a sequence of verdicts")
    if len(verdicts) != len(questions):
        raise ValueError(f"{batch}: the critic returned {len(verdicts)} verdicts, expected {len(questions)}")
    for question, verdict in zip(questions, verdicts, strict=True):
        yield question.place, _checked(question, verdict)


def _checked(question: Question, verdict: object) -> Verdict:
    if not isinstance(verdict, Verdict):
        raise TypeError(f"{question}: the critic returned {type(verdict).__name__}, expected a Verdict")
    if not isinstance(verdict.reason, str):
        raise TypeError(f"{question}: the critic's reason: got {type(verdict.reason).__name__}, expected a str")
    score = _unit(f"{question}: the critic's score", verdict.score)
    return Verdict(score, _unit(f"{question}: the critic's confidence", verdict.confidence), verdict.reason)


def _tensors(
    verdicts: Mapping[tuple[int, int, int], Verdict], chosen: Sequence[Rubric], positions: Sequence[int], group: int
) -> Evaluation:
    """The tensors of all verdicts, padded with 0."""
    prompts, longest = len(chosen), max(len(rubric.items) for rubric in chosen)
    scores, confidences = torch.zeros(2, prompts, group, longest)
    where = torch.tensor(list(verdicts)).unbind(1)
    scores[where] = torch.tensor([verdict.score for verdict in verdicts.values()])
    confidences[where] = torch.tensor([verdict.confidence for verdict in verdicts.values()])
    weights, item_mask = torch.zeros(prompts, longest), torch.zeros(prompts, longest, dtype=torch.bool)
    for i, rubric in enumerate(chosen):
        weights[i, : len(rubric.items)] = torch.tensor([float(item.weight) for item in rubric.items])
        item_mask[i, : len(rubric.items)] = True
    reasons = [
        [[verdicts[i, j, q].reason for q in range(len(rubric.items))] for j in range(group)]
        for i, rubric in enumerate(chosen)
    ]
    return Evaluation(scores, confidences, weights, item_mask, torch.tensor(positions), reasons)


def _unit(name: str, value: Any) -> float:
    """Check a score or a confidence."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: got {type(value).__name__}, expected a number in [0, 1]")
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name}: got {number}, expected a number in [0, 1]")
    return number


def _name(verifier: object) -> str:
    return getattr(verifier, "__name__", type(verifier).__name__)


# -- arguments ---------------------------------------------------------------------------------------------------------


def _check_responses(prompts: Sequence[str], responses: Sequence[Sequence[str]]) -> None:
    _check_texts("prompts", prompts)
    _check_length("responses", responses, len(prompts))
    for i, group in enumerate(responses, 1):
        _check_texts(f"responses, prompt {i}", group)
        if len(group) != len(responses[0]):
            raise ValueError(
                f"responses: got {len(group)} for prompt {i}, expected {len(responses[0])}, as for prompt 1"
            )


def _chosen(rubrics: Mapping[str, Rubric], categories: Sequence[str], prompts: int) -> list[Rubric]:
    """The rubric of each prompt."""
    if not isinstance(rubrics, Mapping):
        raise TypeError(f"rubrics: got {type(rubrics).__name__}, expected a mapping from category to Rubric")
    for category, rubric in rubrics.items():
        if not isinstance(rubric, Rubric):
            raise TypeError(f"rubrics: got {type(rubric).__name__} for {category!r}, expected a Rubric")
        if rubric.category != category:
            raise ValueError(f"rubrics: got the rubric of {rubric.category!r} for {category!r}, expected its own")
    _check_length("categories", categories, prompts)
    for i, category in enumerate(categories, 1):
        if category not in rubrics:
            known = ", ".join(map(repr, rubrics)) or "a category, but there is no rubric"
            raise ValueError(f"categories: got {category!r} for prompt {i}, expected one of {known}")
    return [rubrics[category] for category in categories]


def _check_texts(name: str, texts: Sequence[str]) -> None:
    _check_sequence(name, texts)
    if not texts:
        raise ValueError(f"{name}: got none, expected at least one")
    for i, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise TypeError(f"{name}: got {type(text).__name__} in place {i}, expected a str")


def _check_length(name: str, values: Sequence[Any], prompts: int) -> None:
    _check_sequence(name, values)
    if len(values) != prompts:
        raise ValueError(f"{name}: got {len(values)}, expected {prompts}, one for each prompt")


def _check_sequence(name: str, values: object) -> None:
    """Check a sequence; a str is refused, although it is one."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name}: got {type(values).__name__}, expected a sequence")


def _check_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral):
        raise TypeError(f"batch_size: got {type(batch_size).__name__}, expected an integer > 0")
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected an integer > 0")
