"""The graph of claims: each claim and each use once, in a readable order."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from grape_spec.language.registry import CLAIMS

from grape_verified.conformance.subjects import subject_of
from grape_verified.docs import verdicts
from grape_verified.docs.graph import COQ, KERNELS, STATUSES, claim_graph, columns, depths, layout
from grape_verified.docs.verdicts import Verdicts

CSS = (Path(__file__).parents[2] / "docs" / "assets" / "figures.css").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"
USES = [(use, id) for id, claim in CLAIMS.items() for use in claim.uses]


GOOD = Verdicts("fully proved", "certified", "measured")
FIRST = next(iter(CLAIMS))


def found(**changed):
    return dict.fromkeys(CLAIMS, GOOD) | changed


@pytest.fixture(scope="module")
def svg():
    return ElementTree.fromstring(claim_graph(found()))


def test_every_claim_is_a_link_once(svg):
    links = [node.get("href") for node in svg.iter(f"{SVG}a")]
    assert Counter(links) == Counter(f"../claims/{id}/" for id in CLAIMS)
    for node, id in zip(svg.iter(f"{SVG}a"), CLAIMS, strict=True):
        assert node.find(f"{SVG}title").text == f"{id}: proof: fully proved; Coq: certified; kernels: measured"
        sign, name, *others = (text.text for text in node.iter(f"{SVG}text"))
        assert (sign, f"{subject_of(id)}.{name}", others) == ("●", id, ["✓", "≈"])


def test_every_use_is_a_curve_once(svg):
    curves = [(path.get("data-from"), path.get("data-to")) for path in svg.iter(f"{SVG}path")]
    assert Counter(curves) == Counter(USES)


def test_every_subject_has_its_name(svg):
    names = [text.text for text in svg.iter(f"{SVG}text") if text.get("class") == "subject"]
    assert Counter(names) == Counter({subject_of(id) for id in CLAIMS})


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_has_a_class_and_a_sign_of_its_own(status):
    svg = ElementTree.fromstring(claim_graph(found(**{FIRST: GOOD._replace(status=status)})))
    node = next(svg.iter(f"{SVG}a"))
    assert node.get("class") == f"status-{status.replace(' ', '-')}"
    assert node.find(f"{SVG}text").text == STATUSES[status]
    assert len(set(STATUSES.values())) == len(STATUSES)


@pytest.mark.parametrize(
    ("kind", "position", "word"), [*(("coq", 2, word) for word in COQ), *(("kernels", 3, word) for word in KERNELS)]
)
def test_what_coq_says_and_what_was_measured_have_signs_of_their_own(kind, position, word):
    drawn = ElementTree.fromstring(claim_graph(found(**{FIRST: GOOD._replace(**{kind: word})})))
    node, other = list(drawn.iter(f"{SVG}a"))[:2]
    signs = COQ if kind == "coq" else KERNELS
    assert node.findall(f"{SVG}text")[position].text == signs[word]
    assert f"{'Coq' if kind == 'coq' else kind}: {word}" in node.find(f"{SVG}title").text
    assert other.findall(f"{SVG}text")[position].text == signs[getattr(GOOD, kind)]
    assert len(set(signs.values())) == len(signs)


def test_the_graph_knows_every_verdict():
    assert set(COQ) == set(verdicts.COQ)
    assert set(KERNELS) == set(verdicts.KERNELS)


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_has_a_colour_of_its_own(status):
    name = f"status-{status.replace(' ', '-')}"
    assert f".claim-graph .{name} {{ color: var(--{name}); }}" in CSS
    assert len(re.findall(rf"--{name}: (#[0-9a-f]{{6}});", CSS)) == 2


def test_the_legend_counts(svg):
    less = Verdicts("proved at chosen sizes only", "not certified", "no kernel")
    text = claim_graph(found(**dict.fromkeys(list(CLAIMS)[:3], less)))
    for word in GOOD:
        assert f">{word}: {len(CLAIMS) - 3}<" in text
    assert ">not certified: 3<" in text
    assert ">no kernel: 3<" in text
    assert "proved at chosen sizes only: 3<" in text
    assert "refuted: 0<" in text


def test_a_status_that_is_none():
    with pytest.raises(ValueError, match=r"proof: got 'fine' for ppo\.clip\.gradient, expected one of fully proved"):
        claim_graph(found(**{"ppo.clip.gradient": GOOD._replace(status="fine")}))
    with pytest.raises(ValueError, match=r"Coq: got 'measured' for ppo\.clip\.gradient, expected one of certified"):
        claim_graph(found(**{"ppo.clip.gradient": GOOD._replace(coq="measured")}))


def test_a_claim_without_status():
    rest = found()
    del rest["ppo.clip.gradient"]
    with pytest.raises(ValueError, match=r"extra or missing ids \['ppo\.clip\.gradient'\]"):
        claim_graph(rest)


def test_a_status_without_claim():
    with pytest.raises(ValueError, match=r"extra or missing ids \['ppo\.nothing'\]"):
        claim_graph(found(**{"ppo.nothing": GOOD}))


def test_it_is_the_same_every_time_and_in_one_block():
    text = claim_graph(found())
    assert text == claim_graph(dict(reversed(found().items())))
    assert "\n\n" not in text
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgb|fill=|stroke=|style=", text)


def test_a_subject_stands_to_the_right_of_those_that_it_uses():
    column = columns()
    for use, id in USES:
        if subject_of(use) != subject_of(id):
            assert column[subject_of(use)] < column[subject_of(id)], (use, id)


def test_a_claim_is_deeper_than_those_of_its_subject_that_it_uses():
    depth, (_, places) = depths(), layout()
    for use, id in USES:
        if subject_of(use) == subject_of(id):
            assert depth[use] < depth[id]
            assert places[use].x < places[id].x
            assert places[use].y < places[id].y


def test_boxes_do_not_overlap_and_lie_inside(svg):
    width, height = (float(number) for number in svg.get("viewBox").split()[2:])
    boxes = [
        tuple(float(rect.get(key)) for key in ("x", "y", "width", "height"))
        for node in svg.iter(f"{SVG}a")
        for rect in node.iter(f"{SVG}rect")
    ]
    assert len(boxes) == len(CLAIMS)
    rows = sorted(boxes, key=lambda box: (box[0] + box[2], box[1]))
    for (x, y, w, h), (next_x, next_y, next_w, _) in pairwise(rows):
        assert x + w != next_x + next_w or y + h < next_y
    for x, y, w, h in boxes:
        assert min(x, y) > 0
        assert x + w < width
        assert y + h < height


def test_the_columns_are_of_like_height():
    _, places = layout()
    ends = [max(p.y for p in places.values() if p.column == c) for c in {p.column for p in places.values()}]
    assert max(ends) < 1.5 * min(ends)
