"""The figures: their values from first principles, and their colours on light and dark pages."""

import inspect
import itertools
import math
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

pytest.importorskip("matplotlib")

from grape_spec.language.registry import CLAIMS

import grape_verified
from grape_verified.docs.drawing import COLOURS, Line, Panel, draw
from grape_verified.docs.figures import (
    CHAPTERS,
    FIGURES,
    aggregation,
    grape,
    grpo,
    snippet,
    trpo,
)

DOCS = Path(__file__).parents[2] / "docs"
CSS = (DOCS / "assets" / "figures.css").read_text(encoding="utf-8")
EXPECTED = {
    "ppo_clip", "dual_clip", "kl_estimators", "kl_directions", "aggregation_weights", "group_advantages", "gae_weights",
    "dpo_slope", "grape_weights", "best_of_n", "confident_token", "logit_rounding", "grpo_length", "trpo_step",
    "clip_weights", "ratio_weights", "binary_advantage", "prompt_weight", "preference_slope",
}  # fmt: skip


@pytest.fixture(scope="module")
def snippets():
    return {name: snippet(name) for name in FIGURES}


@pytest.fixture(scope="module")
def panels():
    return {name: figure.panels() for name, figure in FIGURES.items()}


def near(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(
        actual.double(), torch.as_tensor(expected, dtype=torch.float64), rtol=tolerance, atol=tolerance
    )


# Of every figure


def test_these_are_the_figures():
    assert set(FIGURES) == EXPECTED
    assert all(figure.name == name for name, figure in FIGURES.items())


def test_the_chapter_that_a_figure_is_filed_under_shows_it():
    for chapter in CHAPTERS:
        page = (DOCS / "chapters" / f"{chapter.__name__.rpartition('.')[2]}.md").read_text(encoding="utf-8")
        for figure in chapter.FIGURES:
            assert f'--8<-- "figure/{figure.name}.md"' in page


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_figure_is_an_element_of_a_page(name, snippets):
    text = snippets[name]
    root = ElementTree.fromstring(text)
    assert root.tag == "figure"
    assert root.attrib == {"id": f"figure-{name}", "class": "figure", "markdown": "0"}
    tags = ["{http://www.w3.org/2000/svg}svg", *["fieldset"] * bool(FIGURES[name].sliders), "figcaption"]
    assert [element.tag for element in root] == tags
    assert "\n\n" not in text
    assert "$" not in text
    assert not re.search(r"<\?xml|<!DOCTYPE|<style|<metadata|xlink", text)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_figure_is_as_wide_as_its_place(name, snippets):
    svg = ElementTree.fromstring(snippets[name])[0]
    assert svg.get("width") == "100%"
    assert svg.get("height") is None
    assert [float(number) for number in svg.get("viewBox").split()][:2] == [0, 0]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_figure_says_what_it_shows(name, snippets):
    svg = ElementTree.fromstring(snippets[name])[0]
    title, description = svg[0], svg[1]
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert (title.text, description.text) == (FIGURES[name].title, FIGURES[name].caption)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_colours_are_those_of_the_page(name, snippets):
    colours = set(re.findall(r"(?:fill|stroke|color): ?([^;\"]+)", snippets[name]))
    assert colours <= {"none", "currentColor", *(f"var(--figure-{k})" for k in range(1, COLOURS + 1))}
    assert not re.search(r"(?<!url\()(?<!href=\")#[0-9a-fA-F]{3,8}\b|rgba?\(", snippets[name])


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_words_are_text_in_the_ink_and_letters_of_the_page(name, snippets):
    words = re.findall(r"<text [^>]*style=\"([^\"]*)\"", snippets[name])
    assert len(words) > 4
    assert all("fill: currentColor" in style and "font-family: inherit" in style for style in words)


def test_figures_do_not_share_ids(snippets):
    ids = [id for text in snippets.values() for id in re.findall(r"\bid=\"([^\"]+)\"", text)]
    assert len(ids) == len(set(ids))
    for text in snippets.values():
        references = re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text)
        assert {a or b for a, b in references} <= set(ids)


def test_a_figure_is_drawn_alike_every_time(snippets):
    assert snippet("dual_clip") == snippets["dual_clip"]


def test_a_figure_is_drawn_alike_whatever_the_settings_of_matplotlib(snippets):
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path"}):
        assert snippet("dual_clip") == snippets["dual_clip"]
        assert mpl.rcParams["font.size"] == 30


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_caption_names_public_functions(name, snippets):
    assert FIGURES[name].computed_with
    for function in FIGURES[name].computed_with:
        assert function in grape_verified.__all__
        assert f"<code>{function}</code>" in snippets[name]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_caption_names_claims(name, snippets):
    """All but the one on rounding, of which no claim speaks."""
    assert bool(FIGURES[name].claims) == (name != "logit_rounding")
    for id in FIGURES[name].claims:
        assert id in CLAIMS
        assert f'<a href="../../claims/{id}/"><code>{id}</code></a>' in snippets[name]


@pytest.mark.parametrize("name", [name for name in sorted(EXPECTED) if FIGURES[name].sliders])
def test_sliders_have_labels_and_numbers_and_are_hidden_without_a_script(name, snippets):
    root = ElementTree.fromstring(snippets[name])
    _, group, caption = root
    assert group.get("hidden") is not None
    legend, *rows = group
    assert (legend.tag, legend.text) == ("legend", FIGURES[name].title)
    drawn = caption.find("span[@class='start']").text
    triples = zip(rows[::3], rows[1::3], rows[2::3], strict=True)
    for slider, (label, control, output) in zip(FIGURES[name].sliders, triples, strict=True):
        assert (label.tag, control.tag, output.tag) == ("label", "input", "output")
        assert label.get("for") == control.get("id") == output.get("for")
        assert label.text.startswith(slider.symbol + ", ")
        assert (control.get("type"), control.get("name")) == ("range", slider.name)
        assert [float(control.get(key)) for key in ("min", "max", "step", "value")] == [*slider[3:]]
        assert float(output.text) == slider.start
        assert f"{slider.symbol} = {output.text}" in drawn


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_frame_of_a_panel_tells_where_its_points_are(name, panels, snippets):
    """A script that draws on the axes of a figure has nothing else to go by."""
    root, looked_at = ElementTree.fromstring(snippets[name]), 0
    for number, panel in enumerate(panels[name]):
        group = root.find(f".//*[@id='{name}-panel-{number}']")
        x0, y0, x1, y1, left, bottom, right, top = map(float, group.get("data-frame").split())
        if panel.logarithmic:
            continue
        for line in panel.lines:
            marks = group.findall(f".//*[@id='{name}-panel-{number}-line-{line.colour - 1}']//*[@href]")
            if line.kind == "line":
                path = group.find(f".//*[@id='{name}-panel-{number}-line-{line.colour - 1}']/*")
                start = re.match(r"M (\S+) (\S+)", path.get("d"))
                drawn, x, y = [tuple(map(float, start.groups()))], line.x[:1], line.y[:1]
                if not y0 <= y <= y1:
                    continue
            else:
                inside = (line.y >= y0) & (line.y <= y1)
                drawn, x, y = [(float(m.get("x")), float(m.get("y"))) for m in marks], line.x[inside], line.y[inside]
            places = zip(((x - x0) / (x1 - x0)).tolist(), ((y - y0) / (y1 - y0)).tolist(), strict=True)
            for (across, up), (a, b) in zip(places, drawn, strict=True):
                assert abs(left + across * (right - left) - a) < 0.01
                assert abs(bottom + up * (top - bottom) - b) < 0.01
                looked_at += 1
    assert looked_at or any(panel.logarithmic for panel in panels[name])


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_at_most_two_panels_and_no_colour_twice_in_one(name, panels):
    assert 1 <= len(panels[name]) <= 2
    for panel in panels[name]:
        assert sorted(line.colour for line in panel.lines) == list(range(1, len(panel.lines) + 1))


def unmoved(panel):
    """What is drawn at places of its own, which a script leaves where they are when a slider moves."""
    ticks = [sorted(ticks) for ticks in (panel.x_ticks, panel.y_ticks) if ticks]
    uneven = [places for places in ticks if len({round(b - a, 9) for a, b in pairwise(places)}) > 1]
    return [*uneven, *panel.guides, *([panel.level] if panel.level is not None else [])]


@pytest.mark.parametrize("name", [name for name in sorted(EXPECTED) if FIGURES[name].sliders])
def test_nothing_marks_a_place_that_a_slider_moves(name, panels):
    """A tick at a clip edge would stay where it is when the edge moves."""
    assert [unmoved(panel) for panel in panels[name]] == [[]] * len(panels[name])


def test_a_figure_that_is_not_there():
    with pytest.raises(KeyError, match="there is no figure 'ppo'; there are ppo_clip, dual_clip"):
        snippet("ppo")


def test_markup_in_a_label_is_text():
    x = torch.tensor([0.0, 1.0])
    lines = [Line("a < b & c", x, x, 1), Line("d", x, x + 1, 2)]
    svg = ElementTree.fromstring(draw([Panel("x", "y", lines)], name="n", title="a < b", description="&"))
    assert "a < b & c" in [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert svg[0].text == "a < b"


# Contrast


def luminance(colour):
    parts = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("selector", "page"), [(":root", "#ffffff"), ('[data-md-color-scheme="slate"]', "#1e2129")])
def test_colours_can_be_read_on_the_page(selector, page):
    block = CSS.split(selector + " {")[1].split("}")[0]
    colours = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", block))
    assert {f"--figure-{k}" for k in range(1, COLOURS + 1)} < set(colours)
    assert sum(name.startswith("--status-") for name in colours) == 6
    for name, colour in colours.items():
        dark, light = sorted((luminance(colour), luminance(page)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name


# What they show


def test_ppo_clip(panels):
    for panel, sign in zip(panels["ppo_clip"], (1.0, -1.0), strict=True):
        value, slope = panel.line("surrogate"), panel.line("its slope in log π")
        clipped = value.x > 1.2 if sign > 0 else value.x < 0.8
        near(value.y, torch.where(clipped, sign * value.x.clamp(0.8, 1.2), sign * value.x))
        inside = ((value.x - 1.2).abs() > 1e-9) & ((value.x - 0.8).abs() > 1e-9)
        near(slope.y[inside], torch.where(clipped, 0.0, sign * value.x)[inside])
        assert clipped.any()
        assert (~clipped).any()


def test_dual_clip(panels):
    value, slope = (panel.line("dual clip") for panel in panels["dual_clip"])
    plain, plain_slope = (panel.line("clip") for panel in panels["dual_clip"])
    near(plain.y, -plain.x.clamp(min=0.8))
    near(value.y, -value.x.clamp(min=0.8, max=3))
    beyond, between = value.x > 3.001, (value.x > 0.801) & (value.x < 2.999)
    near(slope.y[beyond], torch.zeros(int(beyond.sum())))
    near(plain_slope.y[beyond], -plain.x[beyond])
    near(slope.y[between], -value.x[between])


def test_kl_estimators(panels):
    values, slopes = panels["kl_estimators"]
    x = values.line("k1").x
    d = -x
    near(values.line("k1").y, x)
    near(values.line("k2").y, x**2 / 2)
    near(values.line("k3").y, torch.expm1(d) - d)
    near(slopes.line("k1").y, torch.ones_like(x))
    near(slopes.line("k2").y, x)
    near(slopes.line("k3").y, 1 - torch.exp(d))


def test_kl_directions(panels):
    (panel,) = panels["kl_directions"]
    target, mode, mean = (line.y for line in panel.lines)
    near(torch.stack([target, mode, mean]).sum(1), torch.ones(3))
    tokens = panel.lines[0].x
    assert mode.argmax() == target.argmax()
    assert mode[tokens > 22].sum() < 0.01
    assert target[tokens > 22].sum() > 0.3
    # The forward direction matches the first two moments, here up to the grid and the ends of the range.
    assert abs((mean * tokens).sum() - (target * tokens).sum()) < 0.5
    assert mean[20] > 5 * target[20]


def test_aggregation_weights(panels):
    (panel,) = panels["aggregation_weights"]
    short, long = panel.lines
    modes = [panel.y_ticks[place] for place in sorted(panel.y_ticks, reverse=True)]
    s, n, fixed = aggregation.SHORT, aggregation.LONG, aggregation.FIXED
    expected = {
        "token_mean": (1 / (s + n), 1 / (s + n)),
        "sequence_mean": (1 / (2 * s), 1 / (2 * n)),
        "sequence_sum": (1 / 2, 1 / 2),
        "token_sum": (1, 1),
        "fixed_length": (1 / (2 * fixed), 1 / (2 * fixed)),
    }
    assert set(modes) == set(expected)
    near(torch.stack([short.x, long.x], dim=1), [expected[mode] for mode in modes])


def test_group_advantages(panels):
    right, wrong = panels["group_advantages"]
    G = FIGURES["group_advantages"].sliders[0].start
    for panel, reward in ((right, 1), (wrong, 0)):
        p = panel.lines[0].x
        std = (p * (1 - p) * G / (G - 1)).sqrt()
        near(panel.line("mean, unscaled").y, reward - p)
        near(panel.line("leave one out, unscaled").y, (reward - p) * G / (G - 1))
        near(panel.line("mean, std").y, torch.where(std > 0, (reward - p) / std.clamp(min=1e-300), 0))
    near(right.line("mean, std").y[0], math.sqrt(G) * right.line("mean, unscaled").y[0])


def test_gae_weights(panels):
    (panel,) = panels["gae_weights"]
    for line, lam in zip(panel.lines, (0.0, 0.8, 0.95, 1.0), strict=True):
        near(line.y, [lam**k for k in line.x.tolist()])
    assert panel.line("λ = 0.95").y[13] > 0.5 > panel.line("λ = 0.95").y[14]
    assert abs(panel.line("λ = 0.8").y[3] - 0.5) < 0.02


def test_dpo_slope(panels):
    values, slopes = panels["dpo_slope"]
    x = values.lines[0].x
    right, wrong, flipped = torch.log1p(torch.exp(-x / 2)), torch.log1p(torch.exp(x / 2)), 0.2  # β is ½
    near(values.line("DPO").y, right)
    near(slopes.line("DPO").y, -0.5 / (1 + torch.exp(x / 2)))
    near(values.line("DPO, smoothed").y, (1 - flipped) * right + flipped * wrong)
    near(slopes.line("DPO, smoothed").y, (torch.sigmoid(x / 2) - (1 - flipped)) / 2)
    near(values.line("robust DPO").y, ((1 - flipped) * right - flipped * wrong) / (1 - 2 * flipped))
    assert (slopes.line("robust DPO").y < slopes.line("DPO").y).all()
    near(values.line("IPO").y, (x - 1) ** 2)
    near(slopes.line("IPO").y, 2 * (x - 1))


def test_grape_weights(panels):
    """r = Σ_q w_q c̄_q s_q / Σ_q w_q c̄_q, or its numerator: one score alone shows the weight of its item."""
    normalised, summed = panels["grape_weights"]
    confidence = normalised.lines[0].x
    doubtful = FIGURES["grape_weights"].sliders[0].start
    products = [torch.full_like(confidence, 1.0), confidence, torch.full_like(confidence, 2.0 * doubtful)]
    assert grape.IMPORTANCE == (1.0, 1.0, 2.0)
    for item, product in enumerate(products):
        near(summed.lines[item].y, product)
        near(normalised.lines[item].y, product / sum(products))


def test_best_of_n(panels):
    laws, divergence = panels["best_of_n"]
    p = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    at_most = p.cumsum(0)
    for line, n in zip(laws.lines, (1, 2, 4, 8), strict=True):
        near(line.y, at_most**n - (at_most - p) ** n)
    for n, value, bound in zip(range(1, 9), divergence.line("KL").y, divergence.line("bound").y, strict=True):
        law = at_most**n - (at_most - p) ** n
        near(value, (law * (law / p).log()).sum())
        near(bound, math.log(n) - (n - 1) / n)
        assert value <= bound + 1e-12


def test_confident_token(panels):
    (panel,) = panels["confident_token"]
    exact, ours = panel.line("exact"), panel.line("token_logps, fp32")
    naive = panel.line("logsumexp − logit, fp32")
    near(exact.y, [math.log1p(99 * math.exp(-gap)) for gap in exact.x.tolist()])
    assert ((ours.y - exact.y).abs() <= 1e-5 * exact.y).all()
    assert naive.y[exact.x > 20].isnan().all()
    assert not naive.y[exact.x < 15].isnan().any()


def test_logit_rounding(panels):
    (panel,) = panels["logit_rounding"]
    rounded, tiled = panel.lines
    assert all(later > earlier for earlier, later in pairwise(rounded.y.tolist()))
    assert (rounded.y > 1000 * tiled.y).all()
    # Logits of spread s are off by about s · 2⁻⁹ or less when they have 8 bits.
    assert (rounded.y < rounded.x * 2.0**-7).all()
    assert rounded.y[-1] > 0.1


def test_grpo_length(panels):
    (panel,) = panels["grpo_length"]
    lengths = torch.tensor(grpo.LENGTHS, dtype=torch.float64)
    near(panel.line("GRPO").y, 1000 / (len(lengths) * lengths))
    near(panel.line("DAPO").y, torch.full_like(lengths, float(1000 / lengths.sum())))
    near(panel.line("Dr. GRPO").y, torch.full_like(lengths, 1000 / (len(lengths) * 128)))


def test_trpo_step(panels):
    gain, divergence = panels["trpo_step"]
    x = gain.lines[0].x
    old = torch.tensor(trpo.LOGITS, dtype=torch.float64).softmax(0)
    advantages = torch.tensor(trpo.GAINS, dtype=torch.float64)
    centred = advantages - old @ advantages
    length = (2 * trpo.RADIUS / (old @ centred.square())).sqrt()  # F⁻¹g is the centred advantage, up to a shift
    new = (torch.tensor(trpo.LOGITS, dtype=torch.float64) + x[:, None] * length * centred).softmax(1)
    near(gain.line("true").y, new @ advantages - old @ advantages, 1e-6)
    near(gain.line("model").y, x * (2 * trpo.RADIUS * (old @ centred.square())).sqrt(), 1e-6)
    near(divergence.line("true").y, (old * (old / new).log()).sum(1), 1e-6)
    near(divergence.line("model").y, x.square() * trpo.RADIUS, 1e-6)
    assert divergence.line("true").y[50] > trpo.RADIUS
    assert x[50] == 1


def test_clip_weights(panels):
    up, down = panels["clip_weights"]
    x = up.line("PPO").x
    near(up.line("PPO").y, torch.where(x > 1.2, 0.0, x))
    near(up.line("dual clip").y, up.line("PPO").y)
    near(up.line("DAPO").y, torch.where(x > 1.28, 0.0, x))
    assert (up.line("DAPO").y != up.line("PPO").y).any()
    x = down.line("PPO").x
    near(down.line("PPO").y, torch.where(x < 0.8, 0.0, -x))
    near(down.line("DAPO").y, down.line("PPO").y)
    near(down.line("dual clip").y, torch.where((x < 0.8) | (x > 3), 0.0, -x))


def test_ratio_weights(panels):
    for panel, sign, tau in zip(panels["ratio_weights"], (1, -1), (1.0, 1.05), strict=True):
        x = panel.lines[0].x
        near(panel.line("PPO").y, torch.where(x > 1.2 if sign > 0 else x < 0.8, 0.0, sign * x))
        near(panel.line("CISPO").y, sign * x.clamp(max=2))
        near(panel.line("SAPO").y, sign * x / torch.cosh(tau * (x - 1) / 2) ** 2)
        near(panel.line("GSPO").y, torch.where((x > 1) if sign > 0 else (x < 1), 0.0, sign * x))
    edges = inspect.signature(grape_verified.gspo_per_sequence).parameters
    low, high = 1 - edges["clip_low"].default, 1 + edges["clip_high"].default
    assert f"the edges, {low:g} and {high:g}," in FIGURES["ratio_weights"].caption


def test_binary_advantage(panels):
    (panel,) = panels["binary_advantage"]
    p = panel.line("correct, large group").x
    near(panel.line("correct, large group").y, ((1 - p) / p).sqrt())
    near(panel.line("incorrect, large group").y, -(p / (1 - p)).sqrt())
    p = panel.line("correct, group of G").x
    near(p, [k / 8 for k in range(1, 8)])
    near(panel.line("correct, group of G").y, (7 / 8 * (1 - p) / p).sqrt())
    near(panel.line("incorrect, group of G").y, -(7 / 8 * p / (1 - p)).sqrt())
    near(panel.line("correct, group of G").y[0], 7 / math.sqrt(8))


def test_prompt_weight(panels):
    """The expectation over the groups by its definition: the mean of A·b/p − A·(1 − b)/(1 − p) over all outcomes b."""
    weight, share = panels["prompt_weight"]
    places = (0, 37, 49, 98)
    for label, G in (("G", 4), ("2G", 8)):
        for place in places:
            p = weight.line(label).x[place].item()
            expected = teaching = 0.0
            for outcome in itertools.product((0, 1), repeat=G):
                k = sum(outcome)
                chance = p**k * (1 - p) ** (G - k)
                teaching += chance * (0 < k < G)
                std = math.sqrt(k * (G - k) / G / (G - 1))
                for b in outcome if std else ():
                    expected += chance * (b - k / G) / std * (b / p - (1 - b) / (1 - p)) / G
            near(weight.line(label).y[place], expected)
            near(share.line(label).y[place], teaching)
            assert expected <= (G - 1) / math.sqrt(G)
    limit = weight.line("limit")
    near(limit.y, 1 / (limit.x * (1 - limit.x)).sqrt())
    assert (weight.line("4G").y < limit.y).all()
