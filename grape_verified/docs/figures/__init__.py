"""The figures of the site, in a module for each chapter that they belong to.

Each is a function that computes its curves with the public functions of this package. What a page shows is thus what
the code does: slopes come from autograd, weights from one-hot inputs.
"""

from html import escape

from grape_verified.docs.figures import (
    advantage,
    aggregation,
    dpo,
    grape,
    grpo,
    kl,
    numerics,
    ppo,
    preferences,
    rejection,
    trpo,
)
from grape_verified.docs.figures.figure import Figure, Slider
from grape_verified.docs.markdown import address_of
from grape_verified.docs.reference import page_of

CHAPTERS = (ppo, kl, aggregation, advantage, dpo, preferences, grape, rejection, numerics, grpo, trpo)
FIGURES = {figure.name: figure for chapter in CHAPTERS for figure in chapter.FIGURES}

#: The root of the site as seen from a chapter: figures are HTML, whose links mkdocs leaves alone.
_ROOT = "../../"


def snippet(name: str) -> str:
    """The figure with its caption, as a block of Markdown that is HTML; its links hold in a chapter."""
    if name not in FIGURES:
        raise KeyError(f"there is no figure {name!r}; there are {', '.join(FIGURES)}")
    figure = FIGURES[name]
    return (
        f'<figure id="figure-{name}" class="figure" markdown="0">\n{figure.draw()}\n{_sliders(figure)}'
        f"<figcaption>{_caption(figure)}</figcaption>\n</figure>\n"
    )


def _caption(figure: Figure) -> str:
    functions = (_link(f"reference/{page_of(name)}/#grape_verified.{name}", name) for name in figure.computed_with)
    sentences = [escape(figure.caption)]
    if figure.sliders:
        values = ", ".join(f"{slider.symbol} = {slider.start:g}" for slider in figure.sliders)
        sentences.append(f'<span class="start">Drawn for {values}.</span>')
    sentences.append(f"Computed with {', '.join(functions)}.")
    if figure.claims:
        sentences.append(f"Claims: {', '.join(_link(address_of(id), id) for id in figure.claims)}.")
    return " ".join(sentences)


def _link(address: str, text: str) -> str:
    return f'<a href="{_ROOT}{address}"><code>{text}</code></a>'


def _sliders(figure: Figure) -> str:
    """The sliders, hidden until the script that can draw the figure shows them."""
    if not figure.sliders:
        return ""
    rows = "".join(_row(slider, f"{figure.name}-slider-{slider.name}") for slider in figure.sliders)
    return f'<fieldset class="sliders" hidden="">\n<legend>{escape(figure.title)}</legend>\n{rows}</fieldset>\n'


def _row(slider: Slider, id: str) -> str:
    span = f'min="{slider.low:g}" max="{slider.high:g}" step="{slider.step:g}" value="{slider.start:g}"'
    return (
        f'<label for="{id}">{slider.symbol}, {escape(slider.meaning)}</label>\n'
        f'<input type="range" id="{id}" name="{slider.name}" {span} autocomplete="off" />\n'
        f'<output for="{id}" aria-live="off">{slider.start:g}</output>\n'
    )
