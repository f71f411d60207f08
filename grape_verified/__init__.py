"""Post-training losses for language models, held to machine-checked mathematics.

Each loss is built from three layers, each usable alone: log-probabilities of tokens, the mathematics of one
method without reduction (`*_per_token`, `*_per_pair`), and the reduction to one number (`aggregate`, `*_loss`).
"""

from grape_verified import advantage, aggregation, kl
from grape_verified.advantage import *
from grape_verified.aggregation import *
from grape_verified.kl import *
from grape_verified.logprobs import from_hidden, from_logits, fused_loss
from grape_verified.logprobs.from_hidden import *
from grape_verified.logprobs.from_logits import *
from grape_verified.logprobs.fused_loss import *
from grape_verified.losses import dpo, grape, grpo, output, ppo, reinforce, rejection, reward, sft, trpo
from grape_verified.losses.dpo import *
from grape_verified.losses.grape import *
from grape_verified.losses.grpo import *
from grape_verified.losses.output import *
from grape_verified.losses.ppo import *
from grape_verified.losses.reinforce import *
from grape_verified.losses.rejection import *
from grape_verified.losses.reward import *
from grape_verified.losses.sft import *
from grape_verified.losses.trpo import *
from grape_verified.natural_gradient import conjugate_gradient as _conjugate_gradient
from grape_verified.natural_gradient import fisher, step
from grape_verified.natural_gradient.conjugate_gradient import *
from grape_verified.natural_gradient.fisher import *
from grape_verified.natural_gradient.step import *

__version__ = "0.1.0"

__all__ = ["__version__"]
__all__ += advantage.__all__
__all__ += aggregation.__all__
__all__ += kl.__all__
__all__ += from_hidden.__all__
__all__ += from_logits.__all__
__all__ += fused_loss.__all__
__all__ += dpo.__all__
__all__ += grape.__all__
__all__ += grpo.__all__
__all__ += output.__all__
__all__ += ppo.__all__
__all__ += reinforce.__all__
__all__ += rejection.__all__
__all__ += reward.__all__
__all__ += sft.__all__
__all__ += trpo.__all__
__all__ += _conjugate_gradient.__all__
__all__ += fisher.__all__
__all__ += step.__all__
