"""The figures of the site, in a module for each chapter that they belong to.

Each is a function that computes its curves with the public functions of this package. What a page shows is thus what
the code does: slopes come from autograd, weights from one-hot inputs.
"""

from html import escape

from grape_verified.docs.figures import advantage, aggregation, dpo, grape, grpo, kl, numerics, ppo, rejection, trpo

CHAPTERS = (ppo, kl, aggregation, advantage, dpo, grape, rejection, numerics, grpo, trpo)
FIGURES = {figure.name: figure for chapter in CHAPTERS for figure in chapter.FIGURES}


def snippet(name: str) -> str:
    """The figure with its caption, as a block of Markdown that is HTML."""
    if name not in FIGURES:
        raise KeyError(f"there is no figure {name!r}; there are {', '.join(FIGURES)}")
    figure = FIGURES[name]
    functions = ", ".join(f"<code>{function}</code>" for function in figure.computed_with)
    caption = f"{escape(figure.caption)} Computed with {functions}."
    return (
        f'<figure id="figure-{name}" class="figure" markdown="0">\n{figure.draw()}\n'
        f"<figcaption>{caption}</figcaption>\n</figure>\n"
    )
