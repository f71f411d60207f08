"""Families of contracts, for what losses of one kind have in common.

`token_loss`, `pair_loss` and `sequence_loss` make two contracts each, of the loss and of its terms before reduction,
from a formula of the spec; `estimator` makes the contract of a function whose results are not reduced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flint import arb

from grape_verified.conformance import mistakes
from grape_verified.conformance.contract import (
    ADVANTAGES,
    MASKS,
    MASKS_AND_ADVANTAGES,
    Contract,
    Expectation,
    like_first,
    number,
    one_for_each_row,
)
from grape_verified.conformance.defaults import (
    Build,
    ByOptions,
    Drawn,
    Kernel,
    contract_of,
    extras_of,
    formula_at,
    function_named,
    masked_too,
    name_of,
    with_full_mask,
)
from grape_verified.conformance.oracle import (
    Aggregation,
    Answer,
    Arithmetic,
    Oracle,
    Target,
    Term,
    mean_of_rows,
    precisely,
    reduced,
    slope_target,
    target,
    unreduced,
)
from grape_verified.conformance.strategies import Case, Variant

OF_SEQUENCES = tuple(Variant(mask, "per sequence") for mask in ("bool", "float"))


def token_loss(
    name: str,
    *,
    term: ByOptions,
    tensors: Sequence[str],
    build: Build,
    options: Drawn | None = None,
    wrt: Sequence[str] = ("logps",),
    kinks: bool = False,
    aggregation: str | None = None,
    samples: Expectation | None = None,
    loss: Kernel = None,
    per_token: Kernel = None,
    **more: Any,
) -> tuple[Contract, ...]:
    """Make the contracts of a loss over tokens: of the aggregated loss, and of the loss of each token.

    Arguments:
        name: the name of the first contract; the second is named like its function.
        term: the formula of one token, or a function from options to it.
        tensors: the arguments that are tensors, in order, without the mask.
        build: makes them from what is drawn.
        options: values to try for the options in addition to their defaults; the first value stands in for a missing
            default. The options of the reduction are added.
        wrt: the tensors that are differentiated.
        kinks: whether the value has kinks, which `build` then draws.
        aggregation: the mode of the reduction, if it is fixed.
        samples: the expectation over sampled tokens, if the spec states one.
        loss, per_token: the functions that must satisfy the contracts; by default `{name}_loss` and `{name}_per_token`
            of this package. If `loss` is a function of your own and `per_token` is not given, there is one contract.
        more: any other argument of `Contract`.

    Returns: one or two contracts, which `check` takes.

    Raises:
        WrongContract: a ValueError of one line, for an unknown definition, a symbol that is neither a tensor nor an
            option, an option that the function does not have, and the like. The result of `build` is examined when an
            input is made.

    Examples:
        >>> import torch
        >>> from grape_verified.conformance import Formula, check, strategies, token_loss
        >>> def penalty(logps, ref_logps, mask):
        ...     squares = torch.where(mask.bool(), logps - ref_logps, 0).square() / 2
        ...     return squares.sum() / mask.sum().clamp(min=1)
        >>> def tensors(plan):
        ...     return {name: plan.numbers(name, strategies.LOGPS, plan.columns) for name in ("logps", "ref_logps")}
        >>> (contract,) = token_loss(
        ...     "penalty", term=Formula("kl.k2", absolute=("logp", "ref_logp"), scale=0),
        ...     tensors=("logps", "ref_logps"), build=tensors, aggregation="token_mean", loss=penalty,
        ... )
        >>> check(penalty, contract, examples=10).formula
        'right'
    """
    mistakes.refuse_mode(aggregation)

    @precisely
    def of_loss(case: Case, arithmetic: Arithmetic) -> Answer:
        case = case.with_options(aggregation=aggregation) if aggregation else case
        how, formula = Aggregation.of(case, arithmetic), formula_at(term, case)
        return reduced({(i, t): formula.term(case, arithmetic, i, t) for i, t in how.counted()}, how, wrt, arithmetic)

    @precisely
    def of_tokens(case: Case, arithmetic: Arithmetic) -> Answer:
        rows, columns = case.tensors[tensors[0]].shape
        formula = formula_at(term, case)
        terms = [formula.term(case, arithmetic, i, t) for i in range(rows) for t in range(columns)]
        return unreduced(terms, wrt, arithmetic)

    build = mistakes.checked(build, tensors, mistakes.by_token(wrt))
    shared: dict[str, Any] = {
        "tensors": tensors, "wrt": wrt, "extras": extras_of(kinks, samples), "options": options or {}, "term": term,
        "adds_mask": True,
    }  # fmt: skip
    by_sequence = "advantages" in tensors
    whole = contract_of(
        name, loss or f"{name}_loss", **shared, build=masked_too(build), oracle=of_loss, result=number, masked=True,
        reduction=("aggregation", "denominator", "max_length"), expectation=samples and with_full_mask(samples),
        variants=MASKS_AND_ADVANTAGES if by_sequence else MASKS, **more,
    )  # fmt: skip
    single = function_named(per_token, loss, f"{name}_per_token")
    if single is None:
        return (whole,)
    variants = ADVANTAGES if by_sequence else (Variant(),)
    return whole, contract_of(
        name_of(single), single, **shared, build=build, oracle=of_tokens, result=like_first, expectation=samples,
        variants=variants, **more,
    )  # fmt: skip


def sequence_loss(
    name: str,
    *,
    term: ByOptions,
    tensors: Sequence[str],
    build: Build,
    options: Drawn | None = None,
    wrt: Sequence[str] = ("logps",),
    kinks: bool = False,
    loss: Kernel = None,
    per_sequence: Kernel = None,
    **more: Any,
) -> tuple[Contract, ...]:
    """Make the contracts of a loss over sequences: of the mean, and of the loss of each sequence.

    The arguments are those of `token_loss`. Both functions take the mask. The formula gives the loss of sequence `row`,
    and its slope is in the log-probability at `position`.

    Returns: one or two contracts, which `check` takes.

    Raises: WrongContract, as `token_loss` does.

    Examples:
        >>> import torch
        >>> from grape_verified.conformance import Formula, check, sequence_loss, strategies
        >>> def gspo(logps, old_logps, advantages, mask):
        ...     keep = mask.bool()
        ...     log_ratio = torch.where(keep, logps - old_logps, 0).sum(1) / keep.sum(1).clamp(min=1)
        ...     return -(log_ratio.exp() * advantages * keep.any(1)).mean()
        >>> (contract,) = sequence_loss(
        ...     "gspo_without_clip", tensors=("logps", "old_logps", "advantages"), build=strategies.token_tensors,
        ...     term=Formula("grpo.gspo.objective", reads={"clip_low": 1, "clip_high": 10**6}, objective=True,
        ...                  absolute=("logps", "old_logps")), loss=gspo,
        ... )
        >>> check(gspo, contract, examples=10).finding("value").status
        'passed'
    """

    def gradients(case: Case, arithmetic: Arithmetic, factors: Sequence[arb]) -> dict[str, list[Target]]:
        counted, formula = case.tensors["mask"].tolist(), formula_at(term, case)

        def slope(tensor: str, i: int, t: int) -> Target:
            return slope_target(formula.term(case, arithmetic, i, t), tensor, factors[i], arithmetic)

        places = [(i, t) for i, row in enumerate(counted) for t in range(len(row))]
        return {x: [slope(x, i, t) if counted[i][t] else Target(arb(0)) for i, t in places] for x in wrt}

    def terms(case: Case, arithmetic: Arithmetic) -> list[Term]:
        formula = formula_at(term, case)
        return [formula.term(case, arithmetic, i) for i in range(len(case.tensors["mask"]))]

    @precisely
    def of_loss(case: Case, arithmetic: Arithmetic) -> Answer:
        answer = mean_of_rows(case, terms(case, arithmetic), [], arithmetic)
        weight = Aggregation.of_rows(case, arithmetic).weight
        rows = range(len(case.tensors["mask"]))
        return replace(answer, of_gradients=lambda c: gradients(case, arithmetic, [weight(i, 0) * c[0] for i in rows]))

    @precisely
    def of_sequences(case: Case, arithmetic: Arithmetic) -> Answer:
        found = terms(case, arithmetic)
        values = [target(arithmetic.rounded(one.value), one.within().value, arithmetic) for one in found]
        return Answer(values, lambda cotangents: gradients(case, arithmetic, [arb(c) for c in cotangents]))

    build = mistakes.checked(build, tensors, mistakes.by_token(wrt))
    shared: dict[str, Any] = {
        "tensors": tensors, "wrt": wrt, "extras": extras_of(kinks, None), "options": options or {}, "term": term,
        "build": masked_too(build), "variants": OF_SEQUENCES, "adds_mask": True,
    }  # fmt: skip
    whole = contract_of(
        name, loss or f"{name}_loss", **shared, oracle=of_loss, result=number, masked=True, reduction=("denominator",),
        **more,
    )  # fmt: skip
    single = function_named(per_sequence, loss, f"{name}_per_sequence")
    if single is None:
        return (whole,)
    return whole, contract_of(
        name_of(single), single, **shared, oracle=of_sequences, result=one_for_each_row, with_mask=True, **more
    )


def pair_loss(
    name: str,
    *,
    term: ByOptions,
    tensors: Sequence[str],
    build: Build,
    wrt: Sequence[str],
    options: Drawn | None = None,
    kinks: bool = False,
    loss: Kernel = None,
    per_pair: Kernel = None,
    **more: Any,
) -> tuple[Contract, ...]:
    """Make the contracts of a loss over pairs: of the mean, and of the loss of each pair.

    The arguments are those of `token_loss`.

    Returns: one or two contracts, which `check` takes.

    Raises: WrongContract, as `token_loss` does.

    Examples:
        >>> from torch.nn.functional import logsigmoid
        >>> from grape_verified.conformance import Formula, check, pair_loss, strategies
        >>> def ranked(chosen_rewards, rejected_rewards):
        ...     return -logsigmoid(chosen_rewards - rejected_rewards).mean()
        >>> names = ("chosen_rewards", "rejected_rewards")
        >>> (contract,) = pair_loss(
        ...     "ranked", term=Formula("reward.bradley_terry", scale=1), tensors=names, wrt=names, loss=ranked,
        ...     build=lambda plan: {name: plan.numbers(name, (1.0, 0.5, -2.0, 3.0)) for name in names},
        ... )
        >>> check(ranked, contract, examples=10).formula
        'right'
    """

    def terms(case: Case, arithmetic: Arithmetic) -> list[Term]:
        formula = formula_at(term, case)
        return [formula.term(case, arithmetic, i) for i in range(len(case.tensors[tensors[0]]))]

    @precisely
    def of_loss(case: Case, arithmetic: Arithmetic) -> Answer:
        return mean_of_rows(case, terms(case, arithmetic), wrt, arithmetic)

    @precisely
    def of_pairs(case: Case, arithmetic: Arithmetic) -> Answer:
        return unreduced(terms(case, arithmetic), wrt, arithmetic)

    build = mistakes.checked(build, tensors, mistakes.by_pair(tensors))
    shared: dict[str, Any] = {
        "tensors": tensors, "wrt": wrt, "extras": extras_of(kinks, None), "options": options or {},
        "term": term,
    }  # fmt: skip
    whole = contract_of(
        name, loss or f"{name}_loss", **shared, build=build, oracle=of_loss, result=number, reduction=("denominator",),
        **more,
    )  # fmt: skip
    single = function_named(per_pair, loss, f"{name}_per_pair")
    if single is None:
        return (whole,)
    return whole, contract_of(
        name_of(single), single, **shared, build=build, oracle=of_pairs, result=like_first, **more
    )


def estimator(
    name: str,
    *,
    tensors: Sequence[str],
    build: Build,
    term: ByOptions | None = None,
    oracle: Oracle | None = None,
    options: Drawn | None = None,
    wrt: Sequence[str] = (),
    extras: Sequence[str] = (),
    samples: Expectation | None = None,
    kernel: Kernel = None,
    **more: Any,
) -> tuple[Contract, ...]:
    """Make the contract of a function whose results are not reduced: estimates for each token, advantages, weights.

    Give the formula of one token, or an oracle if a result depends on several tokens.

    Arguments:
        name: the name of the contract, and by default of the function.
        term, oracle: one of the two. With an oracle and an empty `wrt`, the results are constants.
        extras: further properties that the contract requires.
        kernel: the function that must satisfy the contract.
        tensors, build, options, wrt, samples, more: as in `token_loss`, with the mask among the tensors.

    Returns: one contract, which `check` takes.

    Raises: WrongContract, as `token_loss` does, and for both or neither of `term` and `oracle`.

    Examples:
        >>> from grape_verified.conformance import Formula, check, estimator, strategies
        >>> def k1(logps, ref_logps):
        ...     return logps - ref_logps
        >>> (contract,) = estimator(
        ...     "k1", term=Formula("kl.k1", absolute=("logp", "ref_logp"), scale=0), kernel=k1, wrt=("logps",),
        ...     tensors=("logps", "ref_logps"),
        ...     build=lambda plan: {n: plan.numbers(n, strategies.LOGPS, plan.columns) for n in ("logps", "ref_logps")},
        ... )
        >>> check(k1, contract, examples=10).formula
        'right'
    """
    if (term is None) == (oracle is None):
        raise mistakes.WrongContract("term, oracle: got both or neither, expected one of them")

    @precisely
    def of_tokens(case: Case, arithmetic: Arithmetic) -> Answer:
        rows, columns = case.tensors[tensors[0]].shape
        formula = formula_at(term, case)
        terms = [formula.term(case, arithmetic, i, t) for i in range(rows) for t in range(columns)]
        return unreduced(terms, wrt, arithmetic)

    found = contract_of(
        name, kernel or name, role="kernel", tensors=tensors, wrt=wrt, options=options or {}, term=term,
        build=mistakes.checked(build, tensors, None),
        oracle=oracle or of_tokens, result=more.pop("result", like_first),
        extras=(*(("expectation",) if samples else ()), *extras), expectation=samples,
        variants=more.pop("variants", MASKS if "mask" in tensors else (Variant(),)), **more,
    )  # fmt: skip
    return (found,)
