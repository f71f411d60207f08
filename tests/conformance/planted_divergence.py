"""The Jensen-Shannon divergence to check: correct in another style, and wrong with one mistake each."""

import math

import torch

from .stated import unit
from .table import TERMS, bound, correct, wrong

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
    return [x.to(dtype).log_softmax(-1).clamp(min=-1e4) for x in logits]


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
