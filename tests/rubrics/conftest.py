"""A language model and its tokenizer, made here: small, with random weights, and far from uniform."""

import math

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = [
    "A rubric has items, and every item makes one demand on a response to a prompt.",
    "The response meets the criterion, or it does not; the critic says how far, and how sure it is.",
    "Score the response by one criterion and by nothing else. Reply with one digit: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9.",
    "yes\nno\nyes\nno\nThe model answers with yes or no, and its next token is read.",
    "def add(a, b):\n    return a + b\n\nassert add(1, 2) == 3\n",
    "What is the sum of two numbers? Show each step, then the answer, and nothing after the answer.",
]


@pytest.fixture(scope="session")
def tokenizer():
    """Byte-level BPE, each digit a token of its own, with a token before every text."""
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    base.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    base.train_from_iterator(TEXT, trainer)
    base.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=base, bos_token="<s>", pad_token="<pad>")


@pytest.fixture
def model(tokenizer):
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.15,
        attention_dropout=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return LlamaForCausalLM(config).eval()


@pytest.fixture
def absolute_model(tokenizer):
    """A model that knows positions by their number; one with rotary embeddings only sees differences."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_positions=1024,
        initializer_range=0.15,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="session")
def ask(tokenizer):
    """A critic of single texts, one number at a time in double precision: score, confidence, share of the answers.

    The model sees the tokens of the text and nothing else: no padding, no mask, no positions.
    """

    def asked(model, tokens, answers):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokens])).logits[0, -1].tolist()
        weights = [math.exp(logit) for logit in logits]
        held = {answer: weights[tokenizer.convert_tokens_to_ids(answer)] for answer in answers}
        total = sum(held.values())
        score, entropy = 0.0, 0.0
        for answer, weight in held.items():
            score += weight / total * answers[answer]
            entropy -= weight / total * math.log(weight / total)
        return score, 1 - entropy / math.log(len(answers)), total / sum(weights)

    return asked
