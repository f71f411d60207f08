"""Small models, their inputs, and inputs that both a Fisher product and a step refuse."""

import math

import torch
from torch.nn import Embedding, Linear, Module, Parameter
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

VOCAB = 7
MASK = torch.tensor([[True, True, False, True], [True, False, False, False], [False, False, False, False]])
UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tokens(*shape, seed=0):
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))


class Tied(Module):
    """An embedding that is the output matrix as well, a frozen bias, and a parameter that takes no part."""

    def __init__(self):
        super().__init__()
        self.embedding = Embedding(VOCAB, 3, dtype=torch.float64)
        self.unused = Parameter(normal(2))
        self.output = Linear(3, VOCAB, dtype=torch.float64)
        self.output.weight = self.embedding.weight
        self.output.bias.requires_grad_(False)
        with torch.no_grad():
            self.embedding.weight.copy_(normal(VOCAB, 3, seed=1))

    def forward(self, inputs):
        return self.output(self.embedding(inputs).tanh())


def linear(seed=0, features=3):
    model = Linear(features, VOCAB, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(normal(VOCAB, features, seed=seed))
        model.bias.copy_(normal(VOCAB, seed=seed + 1))
    return model


def llama(dtype=torch.float32, **options):
    """A small Llama. Its norms compute in fp32 whatever the dtype: in fp64, torch's replace them."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16,
        initializer_range=0.4,
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval().to(dtype)
    if dtype == torch.float64:
        for parent in list(model.modules()):
            for name, norm in list(parent.named_children()):
                if isinstance(norm, LlamaRMSNorm):
                    double = torch.nn.RMSNorm(norm.weight.shape, norm.variance_epsilon, dtype=dtype)
                    double.weight = norm.weight
                    setattr(parent, name, double)
    return model


def llama_batch():
    """Padded on the right; position t predicts the token after it."""
    sequences = tokens(3, 5, seed=4)
    real = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])
    return {"input_ids": sequences[:, :-1], "attention_mask": real}, sequences[:, 1:]


def logits_of(model, inputs):
    output = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    return getattr(output, "logits", output)


def trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def flat(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def bits(model):
    """Every parameter as integers, so that NaN equals NaN and 0 is not −0."""
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16}
    return [p.detach().clone().view(integers[p.element_size()]) for p in model.parameters()]


def unchanged(before, model):
    return all(torch.equal(old, new) for old, new in zip(before, bits(model), strict=True))


def linear_case():
    """Linear logits: F does not depend on anything but the policy, and is known in closed form."""
    return linear(seed=5), normal(3, 4, 3, seed=6), tokens(3, 4, seed=7), normal(3, 4, seed=8)


class Forbidding(Module):
    """Token 2 has a logit of −inf everywhere."""

    def __init__(self):
        super().__init__()
        self.inner = linear()

    def forward(self, inputs):
        return self.inner(inputs).masked_fill(torch.arange(VOCAB) == 2, -math.inf)


class Fixed(Module):
    """Returns fixed logits for every input."""

    def __init__(self, output):
        super().__init__()
        self.output, self.weight = output, Parameter(torch.ones(1))

    def forward(self, inputs):
        return self.output


INPUTS, TARGETS, ADVANTAGES = linear_case()[1:]
FROZEN = linear().requires_grad_(False)

BAD = [
    ({"model": linear}, TypeError, "model: got function, expected a torch.nn.Module"),
    ({"model": FROZEN}, ValueError, "model: got no parameter that requires gradients, expected at least one"),
    ({"model": Fixed("text")}, TypeError, "model: got str, expected logits or an object with .logits"),
    ({"model": Fixed(TARGETS)}, TypeError, "logits: got dtype torch.int64, expected a floating-point dtype"),
    (
        {"model": Fixed(torch.zeros(3, 4, VOCAB))},
        ValueError,
        "model: got logits without a gradient, expected logits that depend",
    ),
    ({"inputs": [1, 2]}, TypeError, "inputs: got list, expected a tensor or a mapping of arguments by name"),
    ({"mask": 2 * MASK}, ValueError, "mask: got the value 2, expected only 0 and 1"),
    ({"mask": [[1]]}, TypeError, "mask: got list, expected a tensor"),
]
