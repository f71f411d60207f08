"""The Jensen-Shannon divergence to check: correct in another style, and wrong with one mistake each."""

import math

import torch

from .stated import unit
from .table import CONSTANT, TERMS, bound, correct, wrong

UNUSUAL = (*TERMS, "forbidden tokens")


@bound("jensen_shannon", 8, "8·u·Σ_v W_v (β T_v |log(T_v/m_v)| + (1 − β) π_v |log(π_v/m_v)| + |T_v − π_v|)")
def mixture_scales(case, answer):
    """Σ_v W_v (β T_v |log(T_v/m_v)| + (1 − β) π_v |log(π_v/m_v)| + |T_v − π_v|), W_v = |log T_v| + |log π_v| + 1."""
    beta = case.options["mixing"]
    log_q, log_p = (case.tensors[n].double().log_softmax(-1).flatten(0, -2) for n in ("logits", "teacher_logits"))
    q, p = log_q.exp(), log_p.exp()
    mixture = beta * p + (1 - beta) * q
    weights = 1 + sum(torch.where(x > 0, log.abs(), 0) for x, log in ((p, log_p), (q, log_q)))
    terms = sum(w * torch.where(x > 0, x * (x / mixture).log().abs(), 0) for w, x in ((beta, p), (1 - beta, q)))
    return (weights * (terms + (p - q).abs() + unit(case) * (p + q))).sum(-1).tolist()


def _logps(*logits):
    """Log-probabilities in the compute dtype; those of forbidden tokens are finite."""
    dtype = torch.float64 if logits[0].dtype == torch.float64 else torch.float32
    return [x.to(dtype).log_softmax(-1).clamp(min=-1e30) for x in logits]


def _divergence(student, teacher, beta, mixture):
    """Two KL divergences from a mixture, given logarithms."""
    above = teacher.exp() * (teacher - mixture)
    return (beta * above + (1 - beta) * student.exp() * (student - mixture)).sum(-1)


@correct("jensen_shannon")
def from_two_divergences(logits, teacher_logits, *, mixing=0.5):
    """The definition, with the mixture by logaddexp."""
    student, teacher = _logps(logits, teacher_logits.detach())
    mixture = torch.logaddexp(teacher + math.log(mixing), student + math.log1p(-mixing))
    return _divergence(student, teacher, mixing, mixture)


def _with(change):
    """The definition with the weights of the teacher in the mixture and in the sum changed."""

    def jensen_shannon(logits, teacher_logits, *, mixing=0.5):
        student, teacher = _logps(logits, teacher_logits.detach())
        inside, outside = change(mixing)
        mixture = torch.logaddexp(teacher + math.log(inside), student + math.log1p(-inside))
        return _divergence(student, teacher, outside, mixture)

    return jensen_shannon


weights_exchanged = wrong("jensen_shannon", must=("options",), may=UNUSUAL)(_with(lambda beta: (1 - beta, 1 - beta)))
mixture_exchanged = wrong("jensen_shannon", must=("options",), may=UNUSUAL)(_with(lambda beta: (1 - beta, beta)))
mixture_always_half = wrong("jensen_shannon", must=("options",), may=UNUSUAL)(_with(lambda beta: (0.5, beta)))


@wrong("jensen_shannon", must=("value", "gradient"), may=UNUSUAL)
def divided_by_the_vocabulary(logits, teacher_logits, *, mixing=0.5):
    """A mean over tokens."""
    return from_two_divergences(logits, teacher_logits, mixing=mixing) / logits.shape[-1]


@wrong("jensen_shannon", must=("gradient",), may=UNUSUAL)
def weight_held_constant(logits, teacher_logits, *, mixing=0.5):
    """The student's probabilities weight its log-ratio as constants."""
    student, teacher = _logps(logits, teacher_logits.detach())
    mixture = torch.logaddexp(teacher + math.log(mixing), student + math.log1p(-mixing))
    own = (1 - mixing) * student.exp().detach() * (student - mixture)
    return (mixing * teacher.exp() * (teacher - mixture) + own).sum(-1)


@wrong("jensen_shannon", must=("value", "gradient"), may=UNUSUAL)
def towards_the_mixture(logits, teacher_logits, *, mixing=0.5):
    """Both divergences with their arguments exchanged, as kl_div takes them."""
    student, teacher = _logps(logits, teacher_logits.detach())
    mixture = torch.logaddexp(teacher + math.log(mixing), student + math.log1p(-mixing))
    return (mixture.exp() * (mixture - mixing * teacher - (1 - mixing) * student)).sum(-1)


@wrong("jensen_shannon", must=("value",), may=(*UNUSUAL, "gradient"))
def a_little_in_the_logarithm(logits, teacher_logits, *, mixing=0.5):
    """1e-4 against forbidden tokens, which moves all the others."""
    student, teacher = (x.exp() for x in _logps(logits, teacher_logits.detach()))
    mixture = mixing * teacher + (1 - mixing) * student
    above = teacher * ((teacher + 1e-4) / (mixture + 1e-4)).log()
    return (mixing * above + (1 - mixing) * student * ((student + 1e-4) / (mixture + 1e-4)).log()).sum(-1)


# -- over the tokens that a teacher sends -----------------------------------------------------------------------------


@bound(
    "top_k_divergence",
    8,
    '8·u·Σ_c W_c (T_c |log(T_c/π_c)| + |T_c − π_c|), for "none" 8·u·Σ_c W_c T_c, with a bucket plus 2⁻⁴⁸·k·W_rest',
)
def cell_scales(case, answer):
    """Σ_c W_c (T_c |log(T_c/π_c)| + |T_c − π_c|), or Σ_c W_c T_c; W_c = |log T_c| + |log π_c| + log vocab + 1.

    With a bucket, 2⁻⁴⁸·k·W_rest more.
    """
    logits, logps, tokens = (case.tensors[name].flatten(0, -2) for name in case.tensors)
    tail = case.options["tail"]
    student, teacher = logits.double().log_softmax(-1), logps.double()
    if tail == "renormalised":
        log_q, log_p = student.gather(-1, tokens).log_softmax(-1), teacher.log_softmax(-1)
    else:
        rest = (1 - teacher.exp().sum(-1, keepdim=True)).clamp(min=0) * (tail == "bucket")
        others = student.scatter(-1, tokens, -math.inf).logsumexp(-1, keepdim=True)
        log_q, log_p = (torch.cat(x, -1) for x in ((student.gather(-1, tokens), others), (teacher, rest.log())))
    q, p = log_q.exp(), log_p.exp()
    sizes = (
        1 + math.log(logits.shape[-1]) + sum(torch.where(x > 0, log.abs(), 0) for x, log in ((p, log_p), (q, log_q)))
    )
    terms = p if tail == "none" else torch.where(p > 0, p * (log_p - log_q).abs(), 0) + (p - q).abs()
    found = (sizes * (terms + unit(case) * (p + q))).sum(-1)
    return (found + 2.0**-48 / (8 * unit(case)) * tokens.shape[-1] * sizes[:, -1] * (tail == "bucket")).tolist()


def _kept(logits, teacher_logps, teacher_tokens):
    """The probabilities of the tokens that are sent under both, as logarithms."""
    (student,) = _logps(logits)
    return teacher_logps.detach().to(student.dtype), student.gather(-1, teacher_tokens)


def _log_of_rest(logps):
    """log(1 − Σ exp(logps)), or a very small number."""
    return (-logps.logsumexp(-1).clamp(max=-1e-30).expm1()).clamp(min=1e-30).log()


def _by_masses(truncated=lambda value: value, rest=_log_of_rest, vocabulary=True):
    """The three forms from sums of probabilities, with one part replaced."""

    def top_k_divergence(logits, teacher_logps, teacher_tokens, *, tail="bucket"):
        teacher, student = _kept(logits, teacher_logps, teacher_tokens)
        if tail == "renormalised":
            teacher, student = teacher.log_softmax(-1), student.log_softmax(-1)
            return (teacher.exp() * (teacher - student)).sum(-1)
        value = truncated((teacher.exp() * (teacher - student)).sum(-1))
        if tail == "none" or (vocabulary and teacher.shape[-1] == logits.shape[-1]):
            return value
        (all_logps,) = _logps(logits)
        others = all_logps.scatter(-1, teacher_tokens, -math.inf).logsumexp(-1)
        left = rest(teacher)
        return value + left.exp() * (left - others)

    return top_k_divergence


from_masses = correct("top_k_divergence")(_by_masses())
clamped_at_zero = wrong("top_k_divergence", must=("options",), may=UNUSUAL)(
    _by_masses(truncated=lambda value: value.clamp(min=0))
)


@wrong("top_k_divergence", must=("value", "gradient"), may=UNUSUAL)
def without_the_bucket(logits, teacher_logps, teacher_tokens, *, tail="bucket"):
    """The tail is left out whatever is asked."""
    return from_masses(logits, teacher_logps, teacher_tokens, tail="none" if tail == "bucket" else tail)


@wrong("top_k_divergence", must=("options",), may=UNUSUAL)
def only_the_teacher_renormalised(logits, teacher_logps, teacher_tokens, *, tail="bucket"):
    """The student keeps its probabilities over the whole vocabulary."""
    if tail != "renormalised":
        return from_masses(logits, teacher_logps, teacher_tokens, tail=tail)
    teacher, student = _kept(logits, teacher_logps, teacher_tokens)
    teacher = teacher.log_softmax(-1)
    return (teacher.exp() * (teacher - student)).sum(-1)


@wrong("top_k_divergence", must=("gradient",), may=UNUSUAL)
def bucket_held_constant(logits, teacher_logps, teacher_tokens, *, tail="bucket"):
    """The student's mass in the bucket has no gradient."""
    value = from_masses(logits, teacher_logps, teacher_tokens, tail=tail)
    if tail != "bucket":
        return value
    kept = from_masses(logits, teacher_logps, teacher_tokens, tail="none")
    return kept + (value - kept).detach()


@wrong("top_k_divergence", must=("value", "gradient"), may=UNUSUAL)
def from_the_student_to_the_teacher(logits, teacher_logps, teacher_tokens, *, tail="bucket"):
    """The reverse divergence on the support of the teacher."""
    teacher, student = _kept(logits, teacher_logps, teacher_tokens)
    if tail == "renormalised":
        teacher, student = teacher.log_softmax(-1), student.log_softmax(-1)
    return (student.exp() * (student - teacher)).sum(-1)


# Advantages of on-policy distillation.


@bound("distillation_advantages", 1, "|error| ≤ u·(⌈log₂ time⌉ + 4)·S_t")
def advantage_scales(case, answer):
    """(⌈log₂ time⌉ + 4)·S_t, with S_t the discounted sum of |logp − teacher_logp| from token t on."""
    tensors, factor = case.tensors, math.ceil(math.log2(max(case.tensors["mask"].shape[1], 1))) + 4
    apart = (tensors["logps"].double() - tensors["teacher_logps"].double()).abs()
    return (factor * _walk(apart, tensors["mask"].bool(), case.options["discount"])).flatten().tolist()


def _walk(numbers, counted, discount):
    """Discounted sums over the counted tokens, backwards."""
    ahead, found = numbers.new_zeros(len(numbers)), torch.zeros_like(numbers)
    for t in reversed(range(numbers.shape[1])):
        own = numbers[:, t] + discount * ahead
        found[:, t] = torch.where(counted[:, t], own, 0)
        ahead = torch.where(counted[:, t], own, ahead)
    return found


def _advantages(sign=1, walk=_walk):
    """Advantages, backwards over the tokens."""

    def advantages(logps, teacher_logps, mask, *, discount):
        dtype, counted = torch.promote_types(logps.dtype, torch.float32), mask.bool()
        rewards = sign * torch.where(counted, teacher_logps.to(dtype) - logps.to(dtype), 0)
        return torch.where(counted, walk(rewards, counted, discount), 0).detach()

    return advantages


backwards = correct("distillation_advantages")(_advantages())


@correct("distillation_advantages")
def by_matrix(logps, teacher_logps, mask, *, discount):
    """The sum over all later tokens, weighted by a power of the discount that counts the tokens between."""
    dtype, counted = torch.promote_types(logps.dtype, torch.float32), mask.bool()
    place = counted.cumsum(1)
    steps = (place[:, None] - place[..., None]).clamp(min=0)
    later = torch.ones(mask.shape[1], mask.shape[1], device=mask.device).triu().bool() & counted[:, None]
    weights = torch.where(later, torch.as_tensor(discount, dtype=torch.float64) ** steps, 0)
    rewards = torch.where(counted, teacher_logps.to(dtype) - logps.to(dtype), 0).double()
    return torch.where(counted, (weights * rewards[:, None]).sum(-1), 0).to(dtype).detach()


def _gaps_count(rewards, counted, discount):
    """A masked token costs a factor of the discount, too."""
    return _walk(rewards, torch.ones_like(counted), discount)


def _from_the_start(rewards, counted, discount):
    """The discount counts tokens from the start of the sequence."""
    steps = (counted.cumsum(1) - 1).clamp(min=0)
    return _walk(rewards * discount**steps, counted, 1.0)


ADVANTAGE_MISTAKES = {
    "sign flipped": (_advantages(sign=-1), "value"),
    "immediate whatever the discount": (_advantages(walk=lambda r, counted, discount: r), "value"),
    "to go whatever the discount": (_advantages(walk=lambda r, counted, discount: _walk(r, counted, 1.0)), "options"),
    "discounted from the start": (_advantages(walk=_from_the_start), "options"),
    "without its own token": (
        _advantages(walk=lambda r, counted, discount: _walk(r, counted, discount) - r),
        "value",
    ),
    "the sum of the sequence for every token": (
        _advantages(walk=lambda r, counted, discount: r.sum(1, keepdim=True).expand_as(r)),
        "value",
    ),
    "centred over the batch": (
        _advantages(
            walk=lambda r, counted, discount: _walk(r - r.sum() / counted.sum().clamp(min=1), counted, discount)
        ),
        "value",
    ),
}
for name, (mistake, fails) in ADVANTAGE_MISTAKES.items():
    wrong("distillation_advantages", name, must=(fails,), may=CONSTANT)(mistake)

gaps_are_steps = wrong("distillation_advantages", must=("options",), may=(*CONSTANT, "padding"))(
    _advantages(walk=_gaps_count)
)
