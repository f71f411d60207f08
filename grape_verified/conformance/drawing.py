"""What Hypothesis does here: it draws inputs, and reduces a failing one.

As long as nothing fails, the drawings are the same for all properties whose inputs have the same size, so they are
drawn once. After a failure, Hypothesis draws them again and continues from the one that failed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from grape_verified.conformance.strategies import Drawn, Size, drawings

#: The same inputs are drawn each time. The seed is arbitrary; the mistakes that the tests plant are found with it.
SEED = 0xFB77C9642E2129889DF6D5D46B7CFC37FF3C8096FDE5BB098E8CB0D40F284C248BAF43B699EB4B9FA3D0527FF1CEB229


@lru_cache(maxsize=64)
def drawn(size: Size, count: int) -> tuple[Drawn, ...]:
    """The drawings of a size, at most `count`."""
    found: list[Drawn] = []
    run_on(found.append, size, count)
    return tuple(found)


def run_on(attempt: Callable[[Drawn], None], size: Size, count: int) -> None:
    """Call a function with each drawing; if it raises, reduce that drawing and raise the last error."""

    @seed(SEED)
    @_quietly(count)
    @given(one=drawings(*size))
    def holds(one: Drawn) -> None:
        attempt(one)

    holds()


def _quietly(examples: int) -> Any:
    """Settings for deterministic runs without output or files."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
