"""The arguments of the functions in this folder: their checks, and the rows that count."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NoReturn, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grape_verified.aggregation import check_reduction
from grape_verified.arguments import (
    LARGEST,
    POSITIVE,
    SMALLEST,
    as_bool,
    check_choice,
    check_denominator,
    check_floating,
    check_number,
    check_same_device,
    check_same_dtype,
    check_same_shape,
    check_tensor,
    check_values,
    counted_tokens,
    values_are_readable,
)
from grape_verified.logprobs.dispatch import in_transform
from grape_verified.numerics import compute_dtype, savable

Separable = Literal["token", "sequence", "pair"]

#: A function that returns the terms of a loss of each kind.
_SUCH_AS = {"token": "ppo_per_token", "sequence": "gspo_per_sequence", "pair": "dpo_per_pair"}


@dataclass(frozen=True)
class HeadInputs:
    """The inputs for each token, flattened, and which tokens count; None if all do."""

    hidden: Float[Tensor, "tokens width"]
    targets: Int[Tensor, " tokens"]
    temperature: float | Float[Tensor, " tokens"]
    counted: Bool[Tensor, " tokens"] | None


def head_inputs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    temperature: float | Tensor,
    mask: Tensor | None,
    ranks: int,
) -> HeadInputs:
    """Check hidden states and the last layer of a model, or the part of it that one of these ranks holds."""
    check_head(hidden, weight, bias)
    vocab = ranks * len(weight)
    check_tensor("targets", targets)
    counted = None if mask is None else counted_tokens(mask, "targets", targets)
    check_targets(targets, "hidden", hidden, vocab, counted)
    if isinstance(temperature, Tensor):
        _check_temperatures(temperature, targets, counted)
    else:
        temperature = check_number("temperature", temperature, POSITIVE)
    return HeadInputs(
        hidden.reshape(-1, hidden.shape[-1]),
        savable(targets.long().reshape(-1)),
        temperature.to(compute_dtype(hidden)).reshape(-1) if isinstance(temperature, Tensor) else temperature,
        None if counted is None else savable(counted.reshape(-1)),
    )


def checked_softcap(name: str, softcap: float | None) -> float | None:
    """Check a soft cap of logits, the argument `name` of the caller; return it as a float."""
    return None if softcap is None else check_number(name, softcap, POSITIVE)


def check_head(hidden: Tensor, weight: Tensor, bias: Tensor | None, *, of: str = "") -> None:
    """Check that hidden states, weight and bias fit together; their names begin with `of`."""
    states, layer, biases = (of + name for name in ("hidden", "weight", "bias"))
    check_tensor(states, hidden)
    if not hidden.is_floating_point():
        raise TypeError(f"{states}: got dtype {hidden.dtype}, expected a floating-point dtype")
    if hidden.ndim < 2 or hidden.shape[-1] == 0:
        raise ValueError(f"{states}: got shape {_shape(hidden)}, expected shape (..., width) with a width > 0")
    check_floating(layer, weight)
    if weight.ndim != 2 or weight.shape[1] != hidden.shape[-1]:
        wide = hidden.shape[-1]
        raise ValueError(f"{layer}: got shape {_shape(weight)}, expected (vocab, {wide}), as wide as {states}")
    check_same_device(layer, weight, states, hidden)
    check_same_dtype(layer, weight, states, hidden)
    if bias is not None:
        check_floating(biases, bias)
        check_same_device(biases, bias, layer, weight)
        check_same_dtype(biases, bias, layer, weight)
        if bias.shape != weight.shape[:1]:
            raise ValueError(
                f"{biases}: got shape {_shape(bias)}, expected {_shape(weight)[:1]}, one for each row of {layer}"
            )


def _check_temperatures(temperature: Tensor, targets: Tensor, counted: Tensor | None) -> None:
    """Check the temperature of each token, where it counts."""
    check_floating("temperature", temperature)
    check_same_shape("temperature", temperature, "targets", targets)
    right = (temperature >= SMALLEST) & (temperature <= LARGEST)  # NaN is neither
    if counted is not None:
        right = right | ~counted
    check_values("temperature", temperature, right, "finite numbers > 0 where a token counts")


def check_targets(targets: Tensor, like_name: str, like: Tensor, vocab: int, counted: Tensor | None = None) -> None:
    """Check that targets are tokens of the vocabulary where they count, one for each position of a tensor."""
    check_tensor("targets", targets)
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(f"targets: got dtype {targets.dtype}, expected an integer dtype")
    check_same_device("targets", targets, like_name, like)
    if targets.shape != like.shape[:-1]:
        raise ValueError(
            f"targets: got shape {_shape(targets)}, expected {tuple(like.shape[:-1])}, "
            f"the shape of {like_name} without its last dimension"
        )
    targets = targets.long()  # unsigned dtypes cannot be compared
    right = (targets >= 0) & (targets < vocab)
    if counted is not None:
        right = right | ~counted
    advice = "; mask the positions that are ignored" if counted is None else ""
    check_values("targets", targets, right, f"values in [0, {vocab}), the vocabulary{advice}")


def counted_positions(mask: Tensor, like: Tensor, like_name: str = "logits") -> Bool[Tensor, "*positions"]:
    """Check a mask over the positions of logits or hidden states; return it as bool."""
    check_tensor("mask", mask)
    check_same_device("mask", mask, like_name, like)
    if mask.shape != like.shape[:-1]:
        raise ValueError(
            f"mask: got shape {_shape(mask)}, expected {_shape(like)[:-1]}, the shape of {like_name} without its "
            "last dimension"
        )
    return as_bool("mask", mask)


def check_separable(
    separable: str, aggregation: str | None, denominator: float | Tensor | None, max_length: int | None
) -> float | Tensor | None:
    """Check `separable` and the options of the reduction; return the denominator, a number as a float."""
    check_choice("separable", separable, get_args(Separable))
    if separable == "token":
        check_reduction("aggregation", "token_mean" if aggregation is None else aggregation, denominator, max_length)
        return check_denominator(denominator)
    for name, value in {"aggregation": aggregation, "max_length": max_length}.items():
        if value is not None:
            raise ValueError(
                f"{name}: got {value!r}, expected None with separable {separable!r}, which does not use it"
            )
    return check_denominator(denominator)


def check_fused_batch(hidden: Tensor, separable: str) -> None:
    """Check that hidden states are those of sequences, for pairs of an even number of them."""
    check_tensor("hidden", hidden)
    if hidden.ndim != 3:
        raise ValueError(f"hidden: got shape {_shape(hidden)}, expected shape (batch, time, width)")
    if separable == "pair" and len(hidden) % 2:
        raise ValueError(f"hidden: got shape {_shape(hidden)}, expected an even batch: the chosen, then the rejected")


def check_fused_inputs(inputs: Mapping[str, Tensor], separable: str, targets: Tensor) -> None:
    """Check the inputs of a loss beside log-probabilities: constants, one row for each sequence or pair."""
    if not isinstance(inputs, Mapping):
        raise TypeError(f"inputs: got {type(inputs).__name__}, expected a mapping from names to tensors")
    batch = tuple(targets.shape[:1])
    for key, value in inputs.items():
        name = f"inputs[{key!r}]"
        check_tensor(name, value)
        check_same_device(name, value, "targets", targets)
        check_constant(name, value)
        if separable == "token" and value.shape not in (targets.shape, batch):
            raise ValueError(
                f"{name}: got shape {_shape(value)}, expected {_shape(targets)}, the shape of targets, or {batch}"
            )
        rows = batch[0] // 2 if separable == "pair" else batch[0]
        if separable != "token" and value.shape[:1] != (rows,):
            raise ValueError(f"{name}: got shape {_shape(value)}, expected ({rows}, ...), one row for each {separable}")


def check_with_values(name: str, other: str, hidden: Tensor, *more: Tensor) -> None:
    """Refuse torch.func and fake tensors in one pass, whose blocks depend on the mask; another function takes them."""
    if in_transform(hidden, *more):
        raise TypeError(f"{name}: got tensors of a torch.func transform, expected plain tensors; {other} takes them")
    if not values_are_readable(hidden):
        raise TypeError(f"hidden: got a tensor without values, expected one with values; {other} takes it")


def check_loss_function(loss_fn: object, separable: str) -> None:
    """Check that a loss function is callable, and by its annotation does not return a reduced loss."""
    if not callable(loss_fn):
        raise TypeError(f"loss_fn: got {type(loss_fn).__name__}, expected a function, such as {_SUCH_AS[separable]}")
    function: object = loss_fn
    while isinstance(function, partial):
        function = function.func
    returned = getattr(function, "__annotations__", {}).get("return")
    if isinstance(returned, type) and issubclass(returned, tuple):
        _refuse_terms(returned, "its terms", separable)


def checked_terms(terms: object, separable: str, shape: tuple[int, ...]) -> Tensor:
    """Check the terms that a loss function returned."""
    if not isinstance(terms, Tensor):
        _refuse_terms(type(terms), f"a tensor of shape {shape}, its terms", separable)
    if terms.shape != shape:
        raise ValueError(f"loss_fn: got a function that returns shape {_shape(terms)}, expected {shape}, its terms")
    return terms


def _refuse_terms(returned: type, expected: str, separable: str) -> NoReturn:
    raise TypeError(
        f"loss_fn: got a function that returns {returned.__name__}, expected {expected}, such as {_SUCH_AS[separable]}"
    )


def check_constant(name: str, value: object) -> None:
    """Check that a constant does not require a gradient."""
    if isinstance(value, Tensor) and value.requires_grad:
        raise ValueError(f"{name}: got a tensor that requires a gradient, expected a constant; detach it")


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
