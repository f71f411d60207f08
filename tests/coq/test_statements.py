"""What Coq is asked to prove is what the claims say: statements written by hand, and the names in them."""

import re

import pytest
import sympy as sp
from grape_spec.coq.certify import coq_statement
from grape_spec.coq.printer import Unstated, coq_id, coq_name, term
from grape_spec.coq.statement import definition_text, stated
from grape_spec.language.expressions import Diff, cases, sum_over
from grape_spec.language.registry import CLAIMS, DEFINITIONS, claim_of
from grape_spec.language.symbols import DECLARATIONS, declared_name
from grape_spec.proof.needs import needs_of

from tests.coq.reading import read

#: Claim, part, and the theorem, written from the claim.
STATEMENTS = [
    (
        "policy.softmax.normalised", "",
        "forall (V : nat) (logits : nat -> R), (1 <= V)%nat -> sum1 V (fun v => policy_softmax V v logits) = 1",
    ),
    (
        "policy.softmax.shift", "",
        """forall (V : nat) (a : nat) (logits : nat -> R) (shift : R), (1 <= V)%nat -> (1 <= a <= V)%nat ->
        policy_softmax V a (fun v => logits v + shift) = policy_softmax V a logits""",
    ),
    (
        "policy.softmax.jacobian", "",
        """forall (V : nat) (a : nat) (k : nat) (logits : nat -> R),
        (1 <= V)%nat -> (1 <= a <= V)%nat -> (1 <= k <= V)%nat ->
        is_derive (fun x => let logits := upd logits k x in policy_softmax V a logits) (logits k)
          (policy_softmax V a logits * (delta a k - policy_softmax V k logits))""",
    ),
    (
        "policy.log_softmax.hessian", "",
        """forall (V : nat) (a : nat) (k : nat) (l : nat) (logits : nat -> R),
        (1 <= V)%nat -> (1 <= a <= V)%nat -> (1 <= k <= V)%nat -> (1 <= l <= V)%nat ->
        is_derive (fun x => let logits := upd logits l x in
            Derive (fun x => let logits := upd logits k x in ln (policy_softmax V a logits)) (logits k)) (logits l)
          (- ((delta k l - policy_softmax V l logits) * policy_softmax V k logits))""",
    ),
    (
        "policy.score.mean_zero", "",
        """forall (V : nat) (k : nat) (logits : nat -> R), (1 <= V)%nat -> (1 <= k <= V)%nat ->
        sum1 V (fun a => policy_softmax V a logits *
          Derive (fun x => let logits := upd logits k x in ln (policy_softmax V a logits)) (logits k)) = 0""",
    ),
    (
        "policy.sequence.log_prob", "sum",
        """forall (T : nat) (theta : R) (token_prob : nat -> R -> R), (1 <= T)%nat ->
        (forall (y0 : nat) (y1 : R), 0 < token_prob y0 y1) ->
        (forall (y0 : nat) (y1 : R), ex_derive (token_prob y0) y1) ->
        ln (prod1 T (fun t => token_prob t theta)) = sum1 T (fun t => ln (token_prob t theta))""",
    ),
    (
        "policy.sequence.log_prob", "score",
        """forall (T : nat) (theta : R) (token_prob : nat -> R -> R), (1 <= T)%nat ->
        (forall (y0 : nat) (y1 : R), 0 < token_prob y0 y1) ->
        (forall (y0 : nat) (y1 : R), ex_derive (token_prob y0) y1) ->
        is_derive (fun theta => ln (prod1 T (fun t => token_prob t theta))) theta
          (sum1 T (fun t => Derive (fun theta => ln (token_prob t theta)) theta))""",
    ),
    (
        "policy.sequence.normalised", "all sequences of at most T tokens",
        """forall (P : nat) (V : nat) (left_ : nat) (end_ : nat) (j : nat) (after : nat -> nat -> nat)
        (next_token : nat -> nat -> R), (1 <= P)%nat -> (1 <= V)%nat -> (1 <= end_ <= V)%nat -> (1 <= j <= P)%nat ->
        (forall w0 : nat, (1 <= w0 <= P)%nat -> forall w1 : nat, (1 <= w1 <= V)%nat ->
          (1 <= after w0 w1 <= P)%nat) ->
        (forall w0 : nat, (1 <= w0 <= P)%nat -> forall w1 : nat, (1 <= w1 <= V)%nat -> 0 < next_token w0 w1) ->
        (forall w0 : nat, (1 <= w0 <= P)%nat -> sum1 V (fun w1 => next_token w0 w1) = 1) ->
        policy_sequence_mass P V left_ j 1 end_ next_token after = 1""",
    ),
    ("kl.log_bound", "bound", "forall (x : R), 0 < x -> ln x <= x - 1"),
    ("kl.log_bound", "strict", "forall (x : R), 0 < x -> x <> 1 -> ln x < x - 1"),
    (
        "kl.nonnegative", "bound",
        """forall (n : nat) (p : nat -> R) (q : nat -> R), (1 <= n)%nat ->
        (forall w0 : nat, (1 <= w0 <= n)%nat -> 0 < p w0) -> (sum1 n (fun w0 => p w0) = 1) ->
        (forall w0 : nat, (1 <= w0 <= n)%nat -> 0 < q w0) -> (sum1 n (fun w0 => q w0) = 1) ->
        kl_divergence n p q >= 0""",
    ),
    (
        "kl.nonnegative", "zero where they agree",
        """forall (n : nat) (p : nat -> R), (1 <= n)%nat ->
        (forall w0 : nat, (1 <= w0 <= n)%nat -> 0 < p w0) -> (sum1 n (fun w0 => p w0) = 1) ->
        kl_divergence n p p = 0""",
    ),
    (
        "kl.nonnegative", "an outcome on which they differ makes its term positive",
        """forall (n : nat) (y : nat) (p : nat -> R) (q : nat -> R), (1 <= n)%nat -> (1 <= y <= n)%nat ->
        (forall w0 : nat, (1 <= w0 <= n)%nat -> 0 < p w0) -> (sum1 n (fun w0 => p w0) = 1) ->
        (forall w0 : nat, (1 <= w0 <= n)%nat -> 0 < q w0) -> (sum1 n (fun w0 => q w0) = 1) ->
        (p y <> q y) -> ln (p y / q y) * p y - p y + q y > 0""",
    ),
    (
        "kl.nonnegative", "positive if they differ on one outcome",
        """forall (n : nat) (one : nat) (p : nat -> R) (q : nat -> R), (1 <= n)%nat -> (1 <= one <= n)%nat ->
        (forall w0 : nat, (1 <= w0 <= n)%nat -> 0 < p w0) -> (sum1 n (fun w0 => p w0) = 1) ->
        (forall w0 : nat, (1 <= w0 <= n)%nat -> 0 < q w0) -> (sum1 n (fun w0 => q w0) = 1) ->
        (p one <> q one) -> (kl_divergence n p q > 0)""",
    ),
    ("kl.k3.nonnegative", "bound", "forall (logp : R) (ref_logp : R), kl_k3 logp ref_logp >= 0"),
    (
        "ppo.clip.sign_form", "",
        """forall (advantage : R) (clip_high : R) (clip_low : R) (rho : R),
        0 <= clip_high -> 0 <= clip_low -> 0 < rho ->
        ppo_clipped_surrogate rho advantage clip_low clip_high =
        if Rleb 0 advantage then advantage * Rmin rho (1 + clip_high) else advantage * Rmax rho (1 - clip_low)""",
    ),
    (
        "ppo.clip.first_order", "slope from above",
        """forall (advantage : R) (clip_high : R) (clip_low : R), 0 <= clip_high -> 0 <= clip_low -> clip_high > 0 ->
        slope_above (fun rho => ppo_clipped_surrogate rho advantage clip_low clip_high) 1 advantage""",
    ),
    (
        "ppo.clip.first_order", "slope from below",
        """forall (advantage : R) (clip_high : R) (clip_low : R), 0 <= clip_high -> 0 <= clip_low -> clip_low > 0 ->
        slope_below (fun rho => ppo_clipped_surrogate rho advantage clip_low clip_high) 1 advantage""",
    ),
    (
        "ppo.clip.gradient", "in the ratio",
        """forall (advantage : R) (clip_high : R) (clip_low : R) (rho : R),
        0 <= clip_high -> 0 <= clip_low -> 0 < rho ->
        rho <> clip_high + 1 -> rho <> 1 - clip_low ->
        is_derive (fun rho => ppo_clipped_surrogate rho advantage clip_low clip_high) rho
          (if (Rltb 0 advantage && Rleb rho (1 + clip_high) || Rltb advantage 0 && Rleb (1 - clip_low) rho)%bool
           then advantage else 0)""",
    ),
    (
        "ppo.clip.gradient", "in the log-probability",
        """forall (advantage : R) (clip_high : R) (clip_low : R) (logp : R) (old_logp : R),
        0 <= clip_high -> 0 <= clip_low ->
        ppo_ratio logp old_logp <> clip_high + 1 -> ppo_ratio logp old_logp <> 1 - clip_low ->
        is_derive (fun logp => ppo_clipped_surrogate (ppo_ratio logp old_logp) advantage clip_low clip_high) logp
          (ppo_clip_slope (ppo_ratio logp old_logp) advantage clip_low clip_high)""",
    ),
    (
        "ppo.clip.kink", "kept at the upper kink",
        """forall (advantage : R) (clip_high : R) (clip_low : R) (rho : R),
        0 <= clip_high -> 0 <= clip_low -> 0 < rho ->
        (advantage > 0 /\\ rho = 1 + clip_high) ->
        ppo_clip_slope rho advantage clip_low clip_high = advantage * rho""",
    ),
    (
        "ppo.value_clip.bound", "no effect",
        """forall (clip : R) (old_value : R) (returns : R) (value : R), 0 < clip -> Rabs (old_value - value) <= clip ->
        ppo_clipped_value_loss value returns old_value clip = ppo_value_loss value returns""",
    ),
    (
        "advantage.gae.recursion", "one token more",
        """forall (K : nat) (decay : R) (residual_at : nat -> R), (1 <= K)%nat -> 0 < decay -> decay <= 1 ->
        residual_at (K + 1)%nat * exp (INR K * ln decay)
          + sum1 K (fun step => residual_at step * exp ((INR step - 1) * ln decay)) =
        decay * sum1 K (fun step => residual_at (step + 1)%nat * exp ((INR step - 1) * ln decay)) + residual_at 1""",
    ),
    (
        "aggregation.equal_lengths", "",
        """forall (B_ : nat) (T : nat) (length : nat) (mask : nat -> nat -> R) (per_token : nat -> nat -> R),
        (1 <= B_)%nat -> (1 <= T)%nat -> (1 <= length)%nat ->
        (forall w0 : nat, (1 <= w0 <= B_)%nat -> forall w1 : nat, (1 <= w1 <= T)%nat ->
          mask w0 w1 = 0 \\/ mask w0 w1 = 1) ->
        (forall i : nat, (1 <= i <= B_)%nat -> sum1 T (fun t => mask i t) = INR length) ->
        aggregation_token_mean B_ T per_token mask (aggregation_token_count B_ T mask)
          = aggregation_sequence_mean B_ T per_token mask (INR B_)""",
    ),
    (
        "dpo.label_smoothing", "optimal margin",
        """forall (label_smoothing : R), 0 < label_smoothing -> label_smoothing < 1 ->
        (let margin := ln ((1 - label_smoothing) / label_smoothing) in
          Derive (fun margin => dpo_smoothed_loss margin label_smoothing) margin) = 0""",
    ),
    (
        "dpo.convex_in_margin", "curvature",
        """forall (margin : R), is_derive (fun margin => Derive (fun margin => dpo_loss margin) margin) margin
        (dpo_sigmoid margin * dpo_sigmoid (- margin))""",
    ),
    (
        "reward.bradley_terry.gradient", "curvature in both",
        """forall (chosen_reward : R) (rejected_reward : R),
        is_derive (fun rejected_reward =>
            Derive (fun chosen_reward => reward_bradley_terry chosen_reward rejected_reward) chosen_reward)
          rejected_reward
          (- (dpo_sigmoid (chosen_reward - rejected_reward) * dpo_sigmoid (rejected_reward - chosen_reward)))""",
    ),
    (
        "trpo.kl.gradient", "where the policies agree",
        """forall (V : nat) (k : nat) (old_logits : nat -> R), (1 <= V)%nat -> (1 <= k <= V)%nat ->
        (let logits := (fun v => old_logits v) in
          Derive (fun x => let logits := upd logits k x in trpo_kl V logits old_logits) (logits k)) = 0""",
    ),
    (
        "grpo.advantage.binary", "of a success",
        """forall (G : nat) (g : nat) (success : nat -> R) (success_rate : R), (1 <= G)%nat -> (1 <= g <= G)%nat ->
        (forall w0 : nat, (1 <= w0 <= G)%nat -> success w0 = 0 \\/ success w0 = 1) ->
        0 < success_rate -> success_rate < 1 ->
        sum1 G (fun h_ => success h_) = INR G * success_rate -> success g = 1 ->
        grpo_advantage G g success 0 0 = sqrt (1 - success_rate) / sqrt success_rate""",
    ),
    (
        "grpo.cispo.gradient", "no token is removed",
        """forall (advantage : R) (clip_high : R) (clip_low : R) (rho : R),
        0 <= clip_high -> 0 <= clip_low -> 0 < rho ->
        (advantage = 0) <-> (advantage * grpo_cispo_weight rho clip_low clip_high = 0)""",
    ),
    (
        "grape.reward.range", "lower bound",
        """forall (G : nat) (Q : nat) (g : nat) (low : R) (scores : nat -> nat -> R) (trust : nat -> R),
        (1 <= G)%nat -> (1 <= Q)%nat -> (1 <= g <= G)%nat ->
        (forall w0 : nat, (1 <= w0 <= Q)%nat -> 0 <= trust w0) ->
        sum1 Q (fun item => trust item) > 0 ->
        (forall item : nat, (1 <= item <= Q)%nat -> low <= scores g item) ->
        grape_reward G Q g scores trust >= low""",
    ),
    (
        "rejection.best_of_n.law", "telescoping",
        """forall (n : nat) (samples : nat) (ladder : nat -> R -> R) (theta : R) (whole : R),
        (1 <= n)%nat -> (1 <= samples)%nat -> (forall (y0 : nat) (y1 : R), 0 < ladder y0 y1) ->
        (forall (y0 : nat) (y1 : R), ex_derive (ladder y0) y1) -> 0 < whole ->
        sum1 n (fun y => exp (INR samples * ln (ladder y theta / whole))
          - exp (INR samples * ln (ladder (y - 1)%nat theta / whole))) =
        exp (INR samples * ln (ladder n theta / whole)) - exp (INR samples * ln (ladder 0 theta / whole))""",
    ),
    (
        "trpo.conjugate_gradient", "n = 2: what solves equation 1",
        """forall (unknowns : nat) (multipliers : nat -> R) (pivot : nat -> R) (right_side : R), unknowns = 2%nat ->
        (forall w0 : nat, (1 <= w0 <= unknowns)%nat -> 0 < multipliers w0) ->
        (forall w0 : nat, (1 <= w0 <= unknowns)%nat -> 0 < pivot w0) -> 0 < right_side ->
        (right_side * multipliers 1 ^ 2 / pivot 2 + right_side / pivot 1) * pivot 1
          - right_side * multipliers 1 ^ 2 * pivot 1 / pivot 2 = right_side""",
    ),
    (
        "sft.gradient", "",
        """forall (B_ : nat) (T : nat) (V : nat) (k : nat) (position : nat) (row : nat) (denominator : R)
        (mask : nat -> nat -> R) (target_token : nat -> nat -> nat -> R) (token_logits : nat -> nat -> nat -> R),
        (1 <= B_)%nat -> (1 <= T)%nat -> (1 <= V)%nat ->
        (1 <= k <= V)%nat -> (1 <= position <= T)%nat -> (1 <= row <= B_)%nat -> 0 < denominator ->
        (forall w0 : nat, (1 <= w0 <= B_)%nat -> forall w1 : nat, (1 <= w1 <= T)%nat ->
          mask w0 w1 = 0 \\/ mask w0 w1 = 1) ->
        (forall w0 : nat, (1 <= w0 <= B_)%nat -> forall w1 : nat, (1 <= w1 <= T)%nat -> forall w2 : nat,
          (1 <= w2 <= V)%nat -> target_token w0 w1 w2 = 0 \\/ target_token w0 w1 w2 = 1) ->
        (forall w0 : nat, (1 <= w0 <= B_)%nat -> forall w1 : nat, (1 <= w1 <= T)%nat ->
          sum1 V (fun w2 => target_token w0 w1 w2) = 1) ->
        is_derive (fun x => let token_logits := upd3 token_logits row position k x in
            sft_objective B_ T V token_logits target_token mask denominator) (token_logits row position k)
          ((policy_softmax V k (fun v => token_logits row position v) - target_token row position k)
            * mask row position / denominator)""",
    ),
    (
        "reinforce.policy_gradient", "responses of many tokens",
        """forall (T : nat) (n : nat) (response_token : nat -> nat -> R -> R) (reward : nat -> R) (theta : R),
        (1 <= T)%nat -> (1 <= n)%nat ->
        (forall (y0 : nat) (y1 : nat) (y2 : R), 0 < response_token y0 y1 y2) ->
        (forall (y0 : nat) (y1 : nat) (y2 : R), ex_derive (response_token y0 y1) y2) ->
        is_derive (fun theta => sum1 n (fun y =>
            exp (sum1 T (fun t => ln (response_token y t theta))) * reward y)) theta
          (sum1 n (fun y => exp (sum1 T (fun t => ln (response_token y t theta))) * reward y
            * sum1 T (fun t => Derive (fun theta => ln (response_token y t theta)) theta)))""",
    ),
]  # fmt: skip

#: Claim, part, and what must hold for each of its terms to have a value, written from the claim.
VALUES = [
    ("policy.softmax.normalised", "", "forall v : nat, (1 <= v <= V)%nat -> policy_softmax_defined V v logits"),
    ("kl.log_bound", "bound", "0 < x"),
    (
        "policy.log_softmax.gradient", "",
        """(locally (logits k) (fun x => let logits := upd logits k x in 0 < policy_softmax V a logits)) /\\
        (locally (logits k) (fun x => let logits := upd logits k x in policy_softmax_defined V a logits)) /\\
        (policy_softmax_defined V k logits)""",
    ),
    (
        "policy.score.mean_zero", "",
        """(forall a : nat, (1 <= a <= V)%nat -> policy_softmax_defined V a logits) /\\
        (forall a : nat, (1 <= a <= V)%nat ->
          locally (logits k) (fun x => let logits := upd logits k x in 0 < policy_softmax V a logits)) /\\
        (forall a : nat, (1 <= a <= V)%nat ->
          locally (logits k) (fun x => let logits := upd logits k x in policy_softmax_defined V a logits)) /\\
        (forall a : nat, (1 <= a <= V)%nat ->
          ex_derive (fun x => let logits := upd logits k x in ln (policy_softmax V a logits)) (logits k))""",
    ),
    (
        "trpo.conjugate_gradient", "n = 2: what solves equation 1",
        """(pivot 1 <> 0) /\\ (pivot 2 <> 0) /\\ (1 <= 1 <= unknowns)%nat /\\ (1 <= 2 <= unknowns)%nat""",
    ),
    (
        "dpo.label_smoothing", "optimal margin",
        """(label_smoothing <> 0) /\\ (0 < (1 - label_smoothing) / label_smoothing) /\\
        (let margin := ln ((1 - label_smoothing) / label_smoothing) in
          locally margin (fun margin => dpo_smoothed_loss_defined margin label_smoothing)) /\\
        (let margin := ln ((1 - label_smoothing) / label_smoothing) in
          ex_derive (fun margin => dpo_smoothed_loss margin label_smoothing) margin)""",
    ),
    (
        "trpo.step", "and the multiplier is positive",
        """(0 <= trpo_squared_length parameters (fun parameter => solution parameter) fisher_factor) /\\
        (0 <= 2) /\\ (0 < max_kl)""",
    ),
]  # fmt: skip


def part_of(id, name):
    return next(part for part in claim_of(id).parts if part.name == name)


def text_of(id, name):
    part = part_of(id, name)
    return stated(part.statement, part.assuming, part.by.at_sizes())


@pytest.mark.parametrize(("id", "name", "expected"), STATEMENTS, ids=[f"{i} {n}" for i, n, _ in STATEMENTS])
def test_a_part_is_stated_as_its_claim_says(id, name, expected):
    printed = text_of(id, name).theorem("name").removeprefix("Theorem name :").removesuffix(".")
    assert read(printed) == read(expected)


@pytest.mark.parametrize(("id", "name", "expected"), VALUES, ids=[f"{i} {n}" for i, n, _ in VALUES])
def test_what_a_part_needs_to_have_a_value_is_stated(id, name, expected):
    needs = " /\\ ".join(f"({need})" for need in text_of(id, name).needs)
    assert read(needs) == read(expected)


def test_at_least_thirty_statements_of_all_shapes_are_written_by_hand():
    assert len(STATEMENTS) >= 30
    shapes = " ".join(text for *_, text in STATEMENTS)
    for word in ("is_derive", "Derive", "slope_above", "slope_below", "let ", "upd3", "if ", "<->", "\\/", "/\\",
                 "prod1", "INR", "ex_derive", "sqrt", "Rabs", "= 2%nat", ">=", "<>"):  # fmt: skip
        assert word in shapes


@pytest.mark.parametrize("id", CLAIMS)
def test_every_part_has_a_statement(id):
    claim = claim_of(id)
    for part in claim.parts:
        assert "Theorem" in coq_statement(part, claim)
    for variant in claim.wrong:
        stated(variant.statement, variant.assuming)


@pytest.mark.parametrize("id", CLAIMS)
def test_what_the_prover_asks_for_is_asked_of_coq(id):
    """The provers and the statements see the same parts that need something to have a value."""
    for part in claim_of(id).parts:
        kinds = {kind for kind, _ in needs_of(part.statement)}
        needs = " ".join(text_of(id, part.name).needs) + " ".join(
            map(definition_text, text_of(id, part.name).definitions)
        )
        if kinds & {"positive", "non-negative", "nonzero"}:
            assert re.search(r"0 <=? |<> 0|_defined", needs)


def test_no_two_things_share_a_name():
    names = [coq_name(thing) for thing in DECLARATIONS] + list(map(coq_id, [*DEFINITIONS, *CLAIMS]))
    assert len(set(map(coq_name, DECLARATIONS))) == len(DECLARATIONS)
    assert not set(map(coq_name, DECLARATIONS)) & set(map(coq_id, [*DEFINITIONS, *CLAIMS]))
    assert all(re.fullmatch(r"[A-Za-z][\w']*", name) for name in names)


def test_definitions_stay_folded():
    assert "exp" not in text_of("policy.softmax.jacobian", "").goal
    assert definition_text("policy.softmax").startswith(
        "Definition policy_softmax (V : nat) (a : nat) (logits : nat -> R) : R :=\n"
    )


def test_a_recursive_definition_is_a_fixpoint():
    text = definition_text("policy.sequence_mass")
    assert text.startswith("Fixpoint policy_sequence_mass (P : nat) (V : nat) (left_ : nat) (j : nat)")
    assert "| O => arrived" in text
    assert "policy_sequence_mass P V left_ (after j v) (arrived * (next_token j v)) end_ next_token after" in text


def test_sympy_evaluates_nothing_on_the_way():
    x, y = declared_name("x"), declared_name("rho")
    root = sp.sqrt(sp.Mul(x, y, evaluate=False), evaluate=False)
    assert read(term(root)) == read("sqrt (x * rho)")
    assert read(term(sp.Mul(x, sp.Pow(x, -1, evaluate=False), evaluate=False))) == read("x / x")
    assert read(term(sp.Add(x, sp.Mul(-1, x, evaluate=False), evaluate=False))) == read("x - x")


def test_a_bound_index_does_not_capture_the_entry_that_is_varied():
    logits, k = declared_name("logits"), declared_name("k")
    v = declared_name("v")
    assert read(term(Diff(sum_over(logits[v] * logits[k], v), logits[k]))) == read(
        "Derive (fun x => let logits := upd logits k x in sum1 V (fun v => logits k * logits v)) (logits k)"
    )


def test_cases_that_do_not_cover_everything_have_no_value():
    x = declared_name("x")
    needs = stated(sp.Gt(cases((x, sp.Gt(x, 1))), 0, evaluate=False)).needs
    assert [read(need) for need in needs] == [read("if Rltb 1 x then True else False")]


def test_what_has_no_form_is_refused_by_name():
    x = declared_name("x")
    with pytest.raises(Unstated, match="sin has no form in Coq"):
        term(sp.sin(x))
    with pytest.raises(Unstated, match="the power"):
        term(x**x)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("a - b", "b - a"),
        ("a / b", "b / a"),
        ("a <= b", "b <= a"),
        ("a < b", "a <= b"),
        ("f a b", "f b a"),
        ("a - b - c", "a - (b - c)"),
        ("P -> Q", "P /\\ Q"),
        ("forall x : R, 0 < x -> P", "forall x : nat, 0 < x -> P"),
        ("sum1 n (fun i => p i)", "sum1 m (fun i => p i)"),
        ("let x := a in x", "let x := b in x"),
        ("1 <= i <= n", "1 <= n <= i"),
    ],
)
def test_statements_that_differ_are_read_as_different(text, other):
    assert read(text) == read(f"({text})")
    assert read(text) != read(other)
