"""Post-training losses for language models with machine-checked mathematics.

There are three layers, each of which can be used alone: log-probabilities of tokens, the mathematics of one method
before reduction (`*_per_token`, `*_per_sequence`, `*_per_pair`), and the reduction to one number (`aggregate`,
`*_loss`).

What holds for every function, unless its docstring says otherwise:

- **Dtypes.** Tensors may be fp64, fp32, bf16 or fp16. Results are computed and returned in fp32, or in fp64 if the
  differentiated tensor is fp64; where nothing is differentiated, the rewards, values or scores decide. Gradients have
  the dtype of their argument. Autocast has no effect.
- **Masks.** `mask` is 1 or True where a token counts: bool, or numbers that are only 0 and 1. Masked entries may hold
  anything, NaN and inf included, and do not affect value or gradient. Per-token results are 0 where masked. If no token
  counts, the loss, its gradients and its metrics are 0. A batch may have no rows.
- **Constants.** Only the log-probabilities, logits, values or rewards of the model being trained are differentiated.
  Other tensors are constants, whether they require a gradient or not. Arguments are never modified.
- **Micro-batches.** If every micro-batch is given the `denominator` of the whole batch, their losses add up to the loss
  of the whole batch, and so do the gradients. The mean of the micro-batch means is a different number.
- **Range.** Log-ratios, ratios and estimates that would leave the range of the dtype saturate at ± finfo.max · 2⁻²⁴ and
  keep their slope. With advantages, coefficients and numbers of tokens whose product is below 2²⁴, losses and gradients
  are finite, of the right sign, and never cut to 0. A gradient that is too large for a half-precision argument is ±inf.
- **Errors.** A wrong type, dtype, shape, device, value or option raises a TypeError or a ValueError before any work.
  The message names the argument, what was given and what was expected. Values are not checked while a compiler traces.
"""

from grape_verified import advantage, aggregation, distillation, divergence, importance, kl, packing
from grape_verified.advantage import *
from grape_verified.aggregation import *
from grape_verified.distillation import *
from grape_verified.divergence import *
from grape_verified.importance import *
from grape_verified.kl import *
from grape_verified.logprobs import from_hidden, from_logits, fused_loss
from grape_verified.logprobs.from_hidden import *
from grape_verified.logprobs.from_logits import *
from grape_verified.logprobs.fused_loss import *
from grape_verified.losses import (
    displacement,
    dpo,
    f_dpo,
    grape,
    grpo,
    orpo,
    output,
    pointwise,
    ppo,
    preference,
    reinforce,
    rejection,
    reward,
    sapo,
    sft,
    trpo,
)
from grape_verified.losses.displacement import *
from grape_verified.losses.dpo import *
from grape_verified.losses.f_dpo import *
from grape_verified.losses.grape import *
from grape_verified.losses.grpo import *
from grape_verified.losses.orpo import *
from grape_verified.losses.output import *
from grape_verified.losses.pointwise import *
from grape_verified.losses.ppo import *
from grape_verified.losses.preference import *
from grape_verified.losses.reinforce import *
from grape_verified.losses.rejection import *
from grape_verified.losses.reward import *
from grape_verified.losses.sapo import *
from grape_verified.losses.sft import *
from grape_verified.losses.trpo import *
from grape_verified.natural_gradient import conjugate_gradient as _conjugate_gradient
from grape_verified.natural_gradient import fisher, step
from grape_verified.natural_gradient.conjugate_gradient import *
from grape_verified.natural_gradient.fisher import *
from grape_verified.natural_gradient.step import *
from grape_verified.packing import *

__version__ = "0.1.0"

__all__ = ["__version__"]
__all__ += advantage.__all__
__all__ += aggregation.__all__
__all__ += packing.__all__
__all__ += importance.__all__
__all__ += divergence.__all__
__all__ += distillation.__all__
__all__ += kl.__all__
__all__ += from_hidden.__all__
__all__ += from_logits.__all__
__all__ += fused_loss.__all__
__all__ += displacement.__all__
__all__ += dpo.__all__
__all__ += f_dpo.__all__
__all__ += grape.__all__
__all__ += grpo.__all__
__all__ += orpo.__all__
__all__ += output.__all__
__all__ += pointwise.__all__
__all__ += ppo.__all__
__all__ += preference.__all__
__all__ += reinforce.__all__
__all__ += rejection.__all__
__all__ += reward.__all__
__all__ += sapo.__all__
__all__ += sft.__all__
__all__ += trpo.__all__
__all__ += _conjugate_gradient.__all__
__all__ += fisher.__all__
__all__ += step.__all__
