"""No glyph with two meanings on one page: a page of a claim, of the definitions of a subject, or a chapter.

The glyph of a symbol or definition is its LaTeX without indices and arguments: A, A_i and A(x) are one glyph, and two
quantities that share it are a fault, unless `SAME` says that they are one quantity.
"""

import re
from itertools import combinations
from pathlib import Path

import pytest
import sympy as sp
from grape_spec import render
from grape_spec.language.definitions import IN_TEMPLATE
from grape_spec.language.expressions import Apply
from grape_spec.language.registry import CLAIMS, DEFINITIONS
from grape_spec.language.symbols import DECLARATIONS
from grape_spec.paper.check import formulas_of
from grape_spec.paper.layout import displayed, statements_of
from grape_spec.paper.patterns import signs
from grape_spec.paper.printer import LETTERS
from grape_spec.paper.reader import nodes_shown

from grape_verified.conformance.subjects import SUBJECTS, subject_of
from grape_verified.docs.shown_parts import shown_parts

CHAPTERS = Path(__file__).parents[2] / "docs" / "chapters"

#: Quantities that are one and the same under their glyph; an index or argument says of what, or at what.
SAME = {
    "log-probability of a token, a response, each of them, or as a function of the parameter": [
        {"logp", "logps", "response_logp", "response_logps"},
        {"old_logp", "old_logps", "old_response_logps"},
        {"ref_logp", "ref_logps"},
        {"trainer_logp", "trainer_logps"},
        {"sampler_logp", "sampler_logps"},
        {"chosen", "chosen_logp"},
        {"rejected", "rejected_logp"},
        {"head.log_probability", "policy.log_softmax"},
    ],
    "a definition, and the variable that its value is put in for": [
        {"ppo.ratio", "ρ"},
        {"importance.ratio", "importance.sequence_ratio", "omega"},
        {"dpo.margin", "margin"},
        {"dpo.log_ratio_margin", "log_ratio_difference"},
        {"grape.trust", "trust", "grape.batch_trust"},
        {"grpo.group_spread", "squares"},
        {"habit.ddof", "divisor"},
        {"grpo.cispo.weight", "constant_weight"},
        {"grpo.token_objective", "token_value"},
        {"sapo.temperature", "gate_temperature"},
        {"advantage.token_count", "count"},
        {"advantage.residual", "residual_at"},
        {"aggregation.row_count", "length"},
        {"rejection.acceptance", "probability", "kept_share"},
        {"pointwise.log_ratio", "labelled_log_ratio", "log_ratio"},
        {"pointwise.kto_anchor", "anchor"},
        {"pointwise.reward_of_chosen", "chosen_reward"},
        {"pointwise.reward_of_rejected", "rejected_reward"},
    ],
    "probability under one policy": [
        {"policy.softmax", "head.probability", "reinforce.next_probability", "next_token", "second"},
        {"new_next_token", "new_second"},
        {"reference", "ref_next_token", "ref"},
        {"π", "next_token"},
        {"teacher", "teacher_next"},
        {"dpo.optimal_policy", "dpo.soft_policy"},
        {"first_token", "response_token", "token_prob"},
        {"sampler", "sampler_next_token", "importance.narrowed"},
        {"p", "trainer_token"},
        {"q", "sampler_token"},
    ],
    "logits": [{"logits", "row_logits", "token_logits", "bigram", "head.logit"}],
    "entropy of the next token": [{"head.entropy", "policy.entropy"}],
    "divergence of what stands in the brackets": [
        {"kl.divergence", "kl.forward", "kl.reverse", "kl.sequence_divergence"},
    ],
    "reward; the index says of what": [
        {"received", "token_rewards", "reward_at", "step_reward", "earlier_reward", "token_reward", "reward"}
        | {"response_reward", "response_reward_at", "completion_reward", "outcome_reward", "sample_reward"},
    ],
    "advantage; the index says of what, and grpo.scaled_deviation is it as a function of the deviation": [
        {"advantage", "advantages", "token_advantage", "advantage.gae", "grpo.advantage", "grpo.scaled_deviation"}
        | {"trpo.prefix_advantage", "sequence_advantage"},
    ],
    "value of a prefix": [{"value", "token_values", "value_at"}],
    "what is handed on from a token": [
        {"advantage.value_handed_on", "advantage.value_from"},
        {"advantage.advantage_handed_on", "advantage.advantage_from"},
    ],
    "return, estimated in n steps or to the end": [
        {"advantage.estimated_return", "advantage.n_step_return", "n_step_at"}
    ],
    "discounted rewards": [{"advantage.discounted_rewards", "collected"}],
    "expected reward less the penalty, over responses and over their tokens": [
        {"dpo.objective", "dpo.regularised_return"}
    ],
    "expected reward": [
        {"reinforce.expected_reward", "reinforce.objective"},
        {"trpo.expected_reward", "trpo.two_token_return"},
        {"reinforce.objective", "trpo.expected_reward"},
    ],
    "gain by the old advantages": [{"trpo.expected_surrogate", "trpo.local_return", "trpo.surrogate_sum"}],
    "a loss, and the same at a smoothing of 0 or a weight of 1": [
        {"dpo.loss", "dpo.smoothed_loss"},
        {"sft.token_loss", "rejection.token_loss"},
    ],
    "1 where a token counts": [{"mask", "counts", "counting", "kept", "packed_mask"}],
    "1 where a weight is kept": [{"kept_outcome", "kept_token", "keep_token", "kept_next", "kept_response"}],
    "1 for what belongs to a part": [{"part", "token_part"}],
    "sum over the vocabulary, and over a part of it": [
        {"head.exp_sum", "head.shard_sum"},
        {"head.spread", "head.shard_spread"},
        {"m", "shard_shift"},
    ],
    "confidence of the critic": [
        {"confidences", "batch_confidences"},
        {"grape.mean_confidence", "grape.batch_confidence"},
    ],
    "weight of a token, of decoupled PPO the ratio to the sampler": [{"correction", "proximal_weight"}],
    "weight of a sequence": [{"kept_weight", "sequence_weight"}],
    "estimate of the KL divergence at a token": [{"kl_term", "penalty"}],
    "strength of the penalty": [{"kl_coef", "coefficient"}],
    "baseline": [{"baseline", "prefix_baseline"}],
    "probability of a prefix": [
        {"reach", "reach_at"},
        {"new_reach", "new_reach_at"},
        {"prefix_probability", "arrived"},
    ],
    "a number to whiten": [{"estimate", "number"}],
    "a sequence of the batch, of which a group has its samples": [{"i", "sample"}],
}

#: What is left, exactly, and why.
KNOWN = {
    # J_T(j): the recursions over T begin at the length of a response, which is T, and end at 0.
    "claims/reinforce.policy_gradient": {("T", "left")},
    "claims/importance.sequence.product": {("T", "left")},
    # The filters speak of sequences of n tokens, the weights of n outcomes.
    "definitions/importance": {("T", "left"), ("aggregation.row_count", "n")},
    "chapters/off_policy": {("T", "left"), ("aggregation.row_count", "n")},
    "chapters/policy": {("T", "left")},
    "chapters/reinforce": {("T", "left")},
    # Best of n: x is the point of a tangent, and the depth of its recursions counts samples, not tokens.
    "definitions/rejection": {("T", "left"), ("per_token", "x")},
    # Best of n has N samples, a batch N tokens; acceptance speaks of a response w, the loss of a weight w_i.
    "chapters/rejection": {("aggregation.token_count", "samples"), ("sequence_weight", "w")},
    # The k-th token ahead, and the derivative in the k-th logit. Kronecker's delta has two indices, a residual one.
    "chapters/advantage": {("k", "step"), ("KroneckerDelta", "advantage.residual"), ("KroneckerDelta", "residual_at")},
    # Kronecker's delta has two indices, the bound on the divergence none.
    "definitions/trpo": {("KroneckerDelta", "max_kl")},
    "chapters/trpo": {("KroneckerDelta", "max_kl")},
    # e_t is 1 at the last token, and e has an exponent.
    "definitions/ppo": {("exp", "last")},
    # Habits of many losses: c is the mean of a whitening, or the dual clip; x is a number to whiten, or a token's loss.
    "definitions/habit": {("exp", "last"), ("centre", "dual_clip"), ("number", "per_token")},
    # Each loss has a weight λ of its own; R-DPO's α is a price, and a divergence has an order α. Kronecker's delta has
    # two indices, the shift of BCO none. The policy is a table of responses, or of tokens, with logits.
    "chapters/preferences": {
        ("nll_weight", "odds_weight"),
        ("nll_weight", "penalty_weight"),
        ("odds_weight", "penalty_weight"),
        ("length_penalty", "order"),
        ("KroneckerDelta", "reward_shift"),
        ("policy.softmax", "π"),
    },
    # A distribution p of the data, and the probability p_t of token t.
    "chapters/sft": {("p", "token_prob")},
}


#: Glyphs of the language itself.
OWN = {sp.KroneckerDelta: r"\delta", sp.exp: "e"}


def glyph(tex):
    """The signs of LaTeX without what is in round brackets, without braces, and without places for indices."""
    found, depth = [], 0
    for sign in signs(tex):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and sign not in {")", "{", "}", "_", ",", "§"}:
            found.append(sign)
    return " ".join(found)


def one_quantity(pair):
    return any(set(pair) <= names for groups in SAME.values() for names in groups)


def collisions(entries):
    """Pairs of names under one glyph that are not one quantity, given the LaTeX of each name."""
    names = {}
    for name, tex in entries.items():
        names.setdefault(glyph(tex), []).append(name)
    names.pop("", None)  # a definition in words, or written as a difference
    return {pair for found in names.values() for pair in combinations(sorted(found), 2) if not one_quantity(pair)}


def listed(symbols):
    """The symbols of a table by their printed names."""
    return {re.match(r"[^\[]+", entry["name"])[0]: entry["latex"] for entry in symbols}


def in_formulas(formulas):
    """The symbols and definitions that are printed in formulas, without arguments that are not."""
    nodes = [node for formula in formulas for node in nodes_shown(formula)]
    nodes += [part for node in nodes if isinstance(node, sp.Indexed) for part in node.base.args]
    found = defined(node.definition.id for node in nodes if isinstance(node, Apply))
    things = {thing for node in nodes for thing in (node, node.func) if thing in DECLARATIONS}
    own = {kind.__name__: tex for kind, tex in OWN.items() if any(isinstance(node, kind) for node in nodes)}
    return found | own | listed(map(render.symbol_as_dict, things))


def defined(ids):
    """Definitions as they are written, with § for an index or argument."""

    def sign(place):
        return place[0][0] if place[0] in ("{{", "}}") else "§"

    return {id: IN_TEMPLATE.sub(sign, DEFINITIONS[id].tex) for id in ids}


def claim_entries(claim):
    """All that a page of a claim lists as symbols and definitions, and what its derivations speak of besides."""
    data = render.as_dict(claim)
    lines = [expr for what, expr in formulas_of(claim) if what.startswith("derivation")]
    return in_formulas(lines) | listed(data["symbols"]) | defined(entry["id"] for entry in data["definitions"])


def definition_entries(subject):
    """All that a page of definitions lists as symbols, and the definitions, with those that they speak of."""
    own = [entry for entry in DEFINITIONS.values() if subject_of(entry.id) == subject]
    symbols = [symbol for entry in own for symbol in render.definition_as_dict(entry)["symbols"]]
    return in_formulas(entry.body for entry in own) | listed(symbols) | defined(entry.id for entry in own)


def chapter_entries(path):
    """What is printed in the boxes of a chapter."""
    formulas, ids = [], []
    for kind, id in re.findall(r'--8<-- "(claim|definition)/(.+)\.md"', path.read_text("utf-8")):
        if kind == "definition":
            ids.append(id)
            formulas += statements_of(DEFINITIONS[id])
        else:
            names = {part["name"] for part in shown_parts(id, [{"name": part.name} for part in CLAIMS[id].parts])}
            shown = [part for part in CLAIMS[id].parts if part.name in names]
            formulas += [formula for part in shown for formula in (part.statement, *part.assuming)]
    return in_formulas(formulas) | defined(ids)


PAGES = {
    **{f"claims/{id}": (claim_entries, claim) for id, claim in CLAIMS.items()},
    **{f"definitions/{subject}": (definition_entries, subject) for subject in SUBJECTS},
    **{f"chapters/{path.stem}": (chapter_entries, path) for path in CHAPTERS.glob("*.md")},
}


@pytest.mark.parametrize("page", PAGES)
def test_a_glyph_has_one_meaning_on_a_page(page):
    entries_of, about = PAGES[page]
    assert collisions(entries_of(about)) == KNOWN.get(page, set())


def test_what_is_said_to_be_one_quantity_or_left_exists():
    names = {name for groups in SAME.values() for group in groups for name in group}
    names |= {name for pairs in KNOWN.values() for pair in pairs for name in pair}
    known = listed(map(render.symbol_as_dict, DECLARATIONS)) | defined(DEFINITIONS)
    known |= {kind.__name__: tex for kind, tex in OWN.items()}
    assert names <= known.keys()
    assert KNOWN.keys() <= PAGES.keys()
    for group in (group for groups in SAME.values() for group in groups):
        assert len({glyph(known[name]) for name in group}) == 1, group


@pytest.mark.full("formulas of every entry read back")
@pytest.mark.parametrize("id", CLAIMS)
def test_a_letter_for_what_is_repeated_is_no_glyph_of_the_page(id):
    """Said below a formula: where u = …; a definition at other arguments keeps its own letter there."""
    entries = claim_entries(CLAIMS[id])
    glyphs = {glyph(tex) for tex in entries.values()}
    for _, formula in formulas_of(CLAIMS[id]):
        letters = set(re.findall(r"\\text\{(?:where|and) \} (\w)(?:_\{[^=]*\})? =", displayed(formula)))
        own = {glyph(entry.tex) for entry in render.definitions_in([formula])}
        assert not glyphs & letters & set(LETTERS) - own
