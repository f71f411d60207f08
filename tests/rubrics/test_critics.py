"""The critic: its verdicts against hand computations from logits, and that they do not depend on the batch."""

import math
from types import SimpleNamespace

import pytest
import torch

from grape_verified.rubrics import LanguageModelCritic, RubricItem
from grape_verified.rubrics.critics import DIGITS, QUESTION, SYSTEM_PROMPT

PROMPTS = [
    "What is the sum of 1 and 2?",
    "Add two numbers.",
    "Write a function that adds two numbers, and say what each step of it does.",
    "Why?",
    "Is 7 a prime? " * 5,
    "no",
    "Show each step.",
]
RESPONSES = [
    "3",
    "def add(a, b):\n    return a + b",
    "The sum is {prompt} and {item}.",
    "",
    "yes " * 40,
    "Score:\n9",
    "…",
]
ITEMS = [
    RubricItem(text, 1.0)
    for text in (
        "It is right.",
        "It is short.",
        "Each step is shown.",
        "It is polite.",
        "{}",
        "It says why.",
        "It ends.",
    )
]
BATCH = (PROMPTS, RESPONSES, ITEMS)

# Both routes evaluate the same model in fp32, on batches of different shapes, so that its sums over up to 300 tokens
# may be taken in another order. Measured: verdicts differ by 2e-7.
TOLERANCE = 1e-5


class Fixed(torch.nn.Module):
    """A model with the same output at every position, which takes no positions."""

    config = SimpleNamespace(max_position_embeddings=None)
    device = torch.device("cpu")

    def __init__(self, tokenizer, logits, elsewhere=0.0):
        super().__init__()
        self.row = torch.full((len(tokenizer),), elsewhere)
        for answer, value in logits.items():
            self.row[tokenizer.convert_tokens_to_ids(answer)] = value

    def forward(self, input_ids, attention_mask):
        logits = torch.full((*input_ids.shape, len(self.row)), torch.nan)
        logits[:, -1] = self.row
        return SimpleNamespace(logits=logits)


def verdict(tokenizer, logits, elsewhere=0.0, **options):
    (result,) = LanguageModelCritic(Fixed(tokenizer, logits, elsewhere), tokenizer, **options)(["p"], ["r"], ITEMS[:1])
    return result


@pytest.fixture(params=["model", "absolute_model"])
def either_model(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("answers", [DIGITS, {"yes": 1.0, "no": 0.0}, {"1": 0.2, "2": 0.9, "3": 0.4}])
def test_against_the_logits_of_single_texts(either_model, tokenizer, ask, answers):
    """The text as it should be, written out here; the model sees one at a time, with nothing but its tokens."""
    critic = LanguageModelCritic(either_model, tokenizer, answers=answers)
    asked = {
        10: "one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, from 0 (not at all) to 9 (fully)",
        2: "one of no, yes, from no (not at all) to yes (fully)",
        3: "one of 1, 3, 2, from 1 (not at all) to 2 (fully)",
    }[len(answers)]
    found = critic(*BATCH)
    for prompt, response, item, (score, confidence, reason) in zip(*BATCH, found, strict=True):
        text = (
            f"{SYSTEM_PROMPT}\n\nPrompt:\n{prompt}\n\nResponse:\n{response}\n\nCriterion:\n{item.text}\n\n"
            f"How far does the response meet the criterion? Reply with {asked}, and with nothing else.\n\nScore:\n"
        )
        assert critic.render(prompt, response, item) == text
        ids = [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
        expected = ask(either_model, ids, answers)
        assert (score, confidence) == pytest.approx(expected[:2], abs=TOLERANCE)
        assert float(reason.split("have ")[1].split(" ")[0]) == pytest.approx(expected[2], rel=1e-2)
    assert min(confidence for _, confidence, _ in found) < 0.9 * max(confidence for _, confidence, _ in found)
    assert max(score for score, _, _ in found) - min(score for score, _, _ in found) > 100 * TOLERANCE


def test_the_batch_does_not_matter(either_model, tokenizer):
    critic = LanguageModelCritic(either_model, tokenizer)
    together = critic(*BATCH)
    lengths = {len(tokenizer(critic.render(*place))["input_ids"]) for place in zip(*BATCH, strict=True)}
    assert len(lengths) > 4
    assert max(lengths) > 1.3 * min(lengths)
    alone = [critic(*([part] for part in place))[0] for place in zip(*BATCH, strict=True)]
    turned = critic(*(list(reversed(part)) for part in BATCH))[::-1]
    assert critic(*BATCH) == together
    for one, other, third in zip(together, alone, turned, strict=True):
        assert one[:2] == pytest.approx(other[:2], abs=TOLERANCE)
        assert one[:2] == pytest.approx(third[:2], abs=TOLERANCE)


def test_responses_are_not_read_as_templates(model, tokenizer):
    critic = LanguageModelCritic(model, tokenizer)
    assert "\nThe sum is {prompt} and {item}.\n" in critic.render(*(part[2] for part in BATCH))
    assert "Criterion:\n{}\n" in critic.render(*(part[4] for part in BATCH))


@pytest.mark.parametrize(
    ("logits", "score", "confidence"),
    [
        ({}, 0.5, 0.0),
        ({"7": 80.0}, 7 / 9, 1.0),
        ({"0": 80.0}, 0.0, 1.0),
        ({"4": 80.0, "5": 80.0}, 0.5, 1 - math.log10(2)),
        ({"0": 80.0, "9": 80.0}, 0.5, 1 - math.log10(2)),
        ({"3": 80.0 + math.log(3), "6": 80.0}, 3.75 / 9, 1 - math.log10(4 / 3**0.75)),
        ({str(digit): -math.inf for digit in range(9)}, 1.0, 1.0),
    ],
)
def test_by_hand(tokenizer, logits, score, confidence):
    assert verdict(tokenizer, logits)[:2] == pytest.approx((score, confidence), abs=1e-6)


def test_only_the_answers_count(tokenizer):
    """The probability of other tokens changes the reason, not the verdict."""
    logits = {"yes": 1.0, "no": 0.0}
    options = {"answers": {"yes": 1.0, "no": 0.0}}
    likely, unlikely = (verdict(tokenizer, logits, elsewhere, **options) for elsewhere in (-80.0, 9.0))
    p = 1 / (1 + math.exp(-1))
    expected = p, 1 + (p * math.log2(p) + (1 - p) * math.log2(1 - p))
    assert likely[:2] == unlikely[:2] == pytest.approx(expected, abs=1e-6)
    assert likely.reason == "'yes' 0.731, 'no' 0.269; the answers have 1 of the next token's probability"
    share = (1 + math.e) / (1 + math.e + (len(tokenizer) - 2) * math.exp(9))
    assert unlikely.reason.endswith(f"; the answers have {share:.3g} of the next token's probability")


def test_the_reason_names_the_three_most_probable_answers(tokenizer):
    reason = verdict(tokenizer, {"8": 3.0, "2": 2.0, "5": 1.0}).reason
    total = math.e**3 + math.e**2 + math.e + 7
    shown = [math.e**3 / total, math.e**2 / total, math.e / total, 7 / total]
    assert reason.startswith("'8' {:.3f}, '2' {:.3f}, '5' {:.3f}, others {:.3f}; ".format(*shown))


@pytest.mark.parametrize("logits", [{"3": math.nan}, {"3": math.inf}, {str(digit): -math.inf for digit in range(10)}])
def test_no_distribution(tokenizer, logits):
    with pytest.raises(ValueError, match=r"model: got answers with logits of NaN, of \+inf, or all of -inf, expected"):
        verdict(tokenizer, logits)


def test_the_model_is_left_as_it_was(model, tokenizer):
    """Within: evaluation mode, no gradients, one position of logits. After: every module in its own mode."""
    expected = LanguageModelCritic(model, tokenizer)(*BATCH)
    model.train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    seen = []

    def look(module, arguments, options, output):
        seen.append((module.training, torch.is_grad_enabled(), output.logits.shape[1]))

    handle = model.register_forward_hook(look, with_kwargs=True)
    assert LanguageModelCritic(model, tokenizer)(*BATCH) == expected
    assert seen == [(False, False, 1)]
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())
    handle.remove()
    model.register_forward_pre_hook(lambda module, arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        LanguageModelCritic(model, tokenizer)(*BATCH)
    assert [module.training for module in model.modules()] == modes


def test_dropout_would_show(model, tokenizer):
    """The premise of the test before: in training mode, this model is not deterministic."""
    model.train()
    tokens = torch.tensor([tokenizer("Score the response.")["input_ids"]])
    assert not model(tokens).logits.equal(model(tokens).logits)


def test_no_judgements(model, tokenizer):
    assert LanguageModelCritic(model, tokenizer)([], [], []) == []


def test_a_model_in_half_precision(model, tokenizer):
    score, confidence, _ = LanguageModelCritic(model.bfloat16(), tokenizer)(*BATCH)[0]
    assert 0 < score < 1
    assert 0 < confidence < 1


CHAT = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] {{ message['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)


def test_chat(model, tokenizer, ask, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", CHAT)
    question = "Judge by {item}:\n{prompt}\n{response}\nReply yes or no."
    options = {"answers": {"yes": 1.0, "no": 0.0}, "system_prompt": "Be strict.", "question": question}
    critic = LanguageModelCritic(model, tokenizer, chat=True, **options)
    text = "<s>[system] Be strict.\n[user] Judge by It is short.:\nAdd.\n1 + 2\nReply yes or no.\n[assistant]\n"
    place = "Add.", "1 + 2", ITEMS[1]
    assert critic.render(*place) == text
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids.count(tokenizer.bos_token_id) == 1
    (found,) = critic(*([part] for part in place))
    assert found[:2] == pytest.approx(ask(model, ids, options["answers"])[:2], abs=TOLERANCE)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": None}, TypeError, "model: got NoneType, expected a causal language model of transformers"),
        ({"model": torch.nn.Linear(1, 1)}, TypeError, "model: got Linear, expected a causal language model of"),
        ({"tokenizer": "gpt2"}, TypeError, "tokenizer: got str, expected a tokenizer of transformers"),
        ({"answers": ["0", "1"]}, TypeError, "answers: got list, expected a mapping from answers to their values"),
        ({"answers": {"yes": 1.0}}, ValueError, "answers: got 1, expected at least two"),
        ({"answers": {"yes": 1.0, 0: 0.0}}, TypeError, "answers: got int, expected a str"),
        ({"answers": {"yes": 1.0, "no": -1}}, ValueError, "answers, 'no': got -1, expected a number in [0, 1]"),
        ({"answers": {"yes": 1.0, "no": math.nan}}, ValueError, "answers, 'no': got nan, expected a number in [0, 1]"),
        ({"answers": {"yes": True, "no": 0}}, TypeError, "answers, 'yes': got bool, expected a number in [0, 1]"),
        ({"answers": {"yes": 0.5, "no": 0.5}}, ValueError, "answers: got one value for all of them, expected at least"),
        (
            {"answers": {"9": 0.9, "10": 1.0}},
            ValueError,
            "answers: got '10', expected texts that are each one token of the tokenizer after the end of the question",
        ),
        ({"answers": {"yes": 1.0, "hippopotamus": 0.0}}, ValueError, "answers: got 'hippopotamus', expected texts"),
        ({"question": QUESTION + "1"}, None, ""),
        (
            {"question": QUESTION + " y", "answers": {"es": 1.0, "no": 0.0}},
            ValueError,
            "answers: got 'es', expected tex",
        ),
        ({"system_prompt": ""}, ValueError, "system_prompt: got '', expected non-blank text"),
        ({"question": 1}, TypeError, "question: got int, expected a str"),
        (
            {"question": "{prompt} {response}?"},
            ValueError,
            "question: got the fields {prompt}, {response}, expected {pr",
        ),
        ({"question": "Score:"}, ValueError, "question: got the fields none, expected {prompt}, {response}, {item}"),
        (
            {"question": QUESTION + "{weight} "},
            ValueError,
            "question: got the fields {answers}, {item}, {prompt}, {res",
        ),
        ({"question": "{prompt!r} {response} {item}?"}, ValueError, "question: got the fields {item}, {prompt}, {resp"),
        ({"question": QUESTION + "{"}, ValueError, "question: got an invalid format string: "),
        ({"question": "{prompt} {response} {item}"}, ValueError, "question: got a field at its end, expected text"),
        ({"chat": 1}, TypeError, "chat: got int, expected a bool"),
        ({"chat": True}, ValueError, "chat: got True for a tokenizer without a chat template, expected False"),
    ],
)
def test_wrong_options(model, tokenizer, options, error, message):
    given = {"model": model, "tokenizer": tokenizer} | options
    if error is None:
        assert LanguageModelCritic(**given)
        return
    with pytest.raises(error) as caught:
        LanguageModelCritic(**given)
    assert str(caught.value).startswith(message)


def test_wrong_calls(model, tokenizer):
    critic = LanguageModelCritic(model, tokenizer)
    with pytest.raises(ValueError, match="critic: got 1 prompts, 2 responses and 1 items, expected as many of each"):
        critic(["a"], ["b", "c"], ITEMS[:1])
    with pytest.raises(
        ValueError, match=r"critic: got a text of \d+ tokens, expected at most 1024, the model's context"
    ):
        critic(["a"], ["b" * 3000], ITEMS[:1])


def test_answers_that_are_one_token(model, tokenizer, monkeypatch):
    """A tokenizer that lowers case makes one token of two answers; one that ends its texts leaves no place for any."""
    from tokenizers import normalizers, processors

    for change, message in (
        ({"normalizer": normalizers.Lowercase()}, "answers: got 'no' and 'No', which are the same token"),
        (
            {"post_processor": processors.TemplateProcessing(single="$A <pad>", special_tokens=[("<pad>", 1)])},
            "answers: got 'no', expected texts that are each one token of the tokenizer",
        ),
    ):
        with monkeypatch.context() as patch:
            for name, value in change.items():
                patch.setattr(tokenizer.backend_tokenizer, name, value)
            with pytest.raises(ValueError, match=message):
                LanguageModelCritic(model, tokenizer, answers={"no": 0.0, "No": 1.0})
