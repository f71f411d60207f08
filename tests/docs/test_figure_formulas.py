"""The script behind the sliders draws what the functions of grape_verified compute."""

import json
from itertools import product
from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib")
pytest.importorskip("py_mini_racer")

from py_mini_racer import MiniRacer

from grape_verified.docs.figures import FIGURES

SCRIPT = Path(__file__).parents[2] / "docs" / "assets" / "figure_formulas.js"
SLIDING = sorted(name for name, figure in FIGURES.items() if figure.sliders)

#: Between a point of the script and the same from a kernel and its autograd, in fp64: this, or this part of the value.
BOUND = 1e-12


def engine(text):
    found = MiniRacer()
    found.eval(text)
    return found


@pytest.fixture(scope="module")
def formulas():
    return engine(SCRIPT.read_text(encoding="utf-8"))


def on_the_slider(slider, fraction):
    """The value of a slider nearest to this part of its range, as a browser reads it."""
    steps = round(fraction * (slider.high - slider.low) / slider.step)
    return float(f"{slider.low + steps * slider.step:.6g}")


def settings(figure):
    """Both ends of every slider, its start and a value inside, in all combinations."""
    choices = [
        sorted({slider.start, *(on_the_slider(slider, fraction) for fraction in (0, 0.6, 1))})
        for slider in figure.sliders
    ]
    names = [slider.name for slider in figure.sliders]
    return [dict(zip(names, values, strict=True)) for values in product(*choices)]


def computed(figure, values):
    """The points of every line of every panel, by the kernels; where a slider counts, it is an integer."""
    whole = {slider.name for slider in figure.sliders if slider.step == 1}
    panels = figure.panels(**{name: int(value) if name in whole else value for name, value in values.items()})
    return [[torch.stack([line.x.double(), line.y.double()], 1) for line in panel.lines] for panel in panels]


def scripted(formulas, name, values):
    """The same by the script."""
    found = json.loads(formulas.eval(f"JSON.stringify(figureFormulas.{name}({json.dumps(values)}))"))
    return [[torch.tensor(line, dtype=torch.float64) for line in panel] for panel in found]


def differences(formulas, name):
    """Lines on which the two do not agree, as texts."""
    wrong = []
    for values in settings(FIGURES[name]):
        ours, theirs = computed(FIGURES[name], values), scripted(formulas, name, values)
        if [len(panel) for panel in ours] != [len(panel) for panel in theirs]:
            wrong.append(f"{values}: another number of lines")
            continue
        for number, (panel, drawn) in enumerate(zip(ours, theirs, strict=True)):
            for place, (line, points) in enumerate(zip(panel, drawn, strict=True)):
                if line.shape != points.shape or not torch.allclose(points, line, rtol=BOUND, atol=BOUND):
                    wrong.append(f"{values}: panel {number}, line {place}")
    return wrong


def test_the_script_has_a_formula_for_each_figure_with_sliders(formulas):
    assert sorted(json.loads(formulas.eval("JSON.stringify(Object.keys(figureFormulas))"))) == SLIDING
    assert len(SLIDING) >= 6


@pytest.mark.parametrize("name", SLIDING)
def test_the_script_agrees_with_the_kernels(formulas, name):
    assert not differences(formulas, name)


@pytest.mark.parametrize("name", SLIDING)
def test_every_slider_changes_the_figure(name):
    figure = FIGURES[name]
    start = {slider.name: slider.start for slider in figure.sliders}
    for slider in figure.sliders:
        moved = start | {slider.name: on_the_slider(slider, 1)}
        before, after = computed(figure, start), computed(figure, moved)
        assert any(
            a.shape != b.shape or not torch.equal(a, b)
            for one, other in zip(before, after, strict=True)
            for a, b in zip(one, other, strict=True)
        ), slider.name


@pytest.mark.parametrize("name", SLIDING)
def test_a_slider_starts_on_one_of_its_steps(name):
    for slider in FIGURES[name].sliders:
        steps = (slider.start - slider.low) / slider.step
        assert slider.low <= slider.start <= slider.high
        assert abs(steps - round(steps)) < 1e-9, slider.name


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("ppo_clip", "=== ratio ? ratio * A : 0", "=== ratio ? A : 0"),
        ("dual_clip", "between(ratio, 1 - low, dual)", "Math.max(ratio, 1 - low)"),
        ("clip_weights", "low, high)),\n    ])\n\n  const ratio", "low, low)),\n    ])\n\n  const ratio"),
        ("ratio_weights", "4 * soft * (1 - soft)", "soft * (1 - soft)"),
        ("ratio_weights", "Math.min(ratio, 1 + cap)", "Math.min(ratio, cap)"),
        ("ratio_weights", "3e-4, 4e-4", "0.2, 0.2"),
        ("group_advantages", "* G) / (G - 1)", "* (G - 1)) / G"),
        ("binary_advantage", "/ G / (G - ddof)", "/ G / G"),
        ("prompt_weight", "(G * q * (1 - q))", "(G * q)"),
        ("prompt_weight", "1 - q ** G - (1 - q) ** G", "1 - q ** G"),
        ("dpo_slope", "beta * slope(beta * h)),", "slope(beta * h)),"),
        ("dpo_slope", "1 / (2 * beta)) ** 2", "1 / beta) ** 2"),
        ("best_of_n", "(n - 1) / n)", "(n - 1))"),
        ("best_of_n", "atMost[k] ** n", "atMost[k] * n"),
        ("grape_weights", "[1, c, 2 * doubtful]", "[1, c, doubtful]"),
    ],
)  # fmt: skip
def test_a_wrong_formula_is_found(name, right, wrong):
    text = SCRIPT.read_text(encoding="utf-8")
    assert text.count(right) == 1
    assert differences(engine(text.replace(right, wrong)), name)
