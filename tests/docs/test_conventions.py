"""Who does what: every statement about a library carries its release and a symbol, and chapters show the same data."""

import ast
import re
from html import unescape
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import markdown
import pytest
import torch
from grape_spec.language.registry import CLAIMS, DEFINITIONS

import grape_verified
from grape_verified import kl_estimate
from grape_verified.conformance.ledger import Ledger
from grape_verified.docs import conventions
from grape_verified.docs.claim_page import claim_page
from grape_verified.docs.conventions import ABOUT_PENALTIES, CONVENTIONS, DIRECTIONS, FAMILIES, HERE, PENALTIES, READ

CHAPTERS = Path(__file__).parents[2] / "docs" / "chapters"

#: The packages in which the symbols of a library are.
ROOTS = {
    "TRL": ("trl",),
    "verl": ("verl",),
    "OpenRLHF": ("openrlhf",),
    "Liger": ("liger_kernel",),
    "torchtune": ("torchtune", "recipes"),
    "torchrl": ("torchrl",),
    "transformers": ("transformers",),
}

#: Every statement about a library, and where it was read.
STATEMENTS = [
    *((p.library, p.does, p.where) for convention in CONVENTIONS for p in convention.others),
    *((p.library, p.setting, p.where) for p in PENALTIES if p.library != HERE),
]


def test_every_release_is_pinned():
    assert all(re.fullmatch(r"[\w-]+ \d+\.\d+\.\d+", release) for release in READ.values())
    assert set(ROOTS) == set(READ)


@pytest.mark.parametrize(("library", "says", "where"), STATEMENTS)
def test_every_statement_carries_a_release_and_a_symbol(library, says, where):
    assert library in READ
    assert says
    assert re.split(r"[./]", where)[0] in ROOTS[library], f"{where}: expected a symbol or a file of {library}"
    assert where.endswith(".py") or re.fullmatch(r"\w+(\.\w+){2,}", where)


def release_of(library):
    """The installed release of a library, if there is one, as the table names it."""
    name = READ[library].split()[0]
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return None


def holds(where):
    """Whether an installed package has a symbol; its files are read and not imported."""
    root, *names = where.split(".")
    place = Path(find_spec(root).submodule_search_locations[0])
    while (place / names[0]).is_dir():
        place /= names.pop(0)
    body = ast.parse((place / f"{names.pop(0)}.py").read_text(encoding="utf-8")).body
    for name in names:
        found = [node for node in body if getattr(node, "name", None) == name]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize("library", READ)
def test_the_symbols_of_an_installed_release_exist(library):
    if release_of(library) != READ[library]:
        pytest.skip(f"{READ[library]} is not installed")
    symbols = {where for name, _, where in STATEMENTS if name == library and "/" not in where}
    assert [where for where in sorted(symbols) if not holds(where)] == []
    assert not holds(f"{min(symbols)}_of_another_release")


def test_conventions_are_about_what_exists():
    about = {id for convention in CONVENTIONS for id in convention.about} | ABOUT_PENALTIES
    assert about <= set(CLAIMS) | set(DEFINITIONS)


def test_our_own_penalties_are_public():
    own = [p.where.removeprefix("grape_verified.") for p in PENALTIES if p.library == HERE]
    assert set(own) <= set(grape_verified.__all__)


def test_the_direction_of_every_penalty_follows_from_what_it_is():
    assert {(p.estimate, p.place, p.ratio) for p in PENALTIES} == set(DIRECTIONS)


def responses(logits):
    """Every response of two tokens and its log-probabilities, one row for each; a tree of prefixes over the logits."""
    first, second = logits[0].log_softmax(-1), logits[1:].log_softmax(-1)
    rows = [torch.stack([first[a], second[a, b]]) for a in range(len(first)) for b in range(len(first))]
    return torch.stack(rows)


def descent(estimate, place, ratio, logits, ref_logits, old_logits):
    """The gradient of a penalty in expectation, token by token at the prefixes that are sampled."""
    logps, ref_logps = responses(logits), responses(ref_logits).detach()
    sampler = logps.detach() if ratio == "nothing" else responses(old_logits).detach()
    difference = (logps - sampler) if ratio == "the ratio of the token" else (logps - sampler).mean(1, keepdim=True)
    weight = torch.ones_like(logps) if ratio == "nothing" else difference.exp()
    value = kl_estimate(logps, ref_logps, estimate[:2])
    if estimate == "k3 with the slope of k2":
        value = (value - kl_estimate(logps, ref_logps, "k2")).detach() + kl_estimate(logps, ref_logps, "k2")
    term = value.detach() * logps if place == "reward" else weight * value
    expected = (sampler.sum(1, keepdim=True).exp() * term).sum()
    return torch.autograd.grad(expected, logits)[0]


def divergence(first, second, visited, logits):
    """The gradient of the sum of the divergences of next tokens at the prefixes that are visited."""
    first, second = first.log_softmax(-1), second.log_softmax(-1)
    at = torch.cat([torch.ones(1), visited[0].softmax(-1).detach()])
    return torch.autograd.grad((at * (first.exp() * (first - second)).sum(1)).sum(), logits)[0]


@pytest.mark.parametrize(("penalty", "direction"), DIRECTIONS.items())
def test_the_direction_of_a_penalty_is_that_of_its_gradient(penalty, direction):
    """Over all responses of two tokens: what a penalty descends on is computed, and is what the table says."""
    torch.manual_seed(0)
    logits, ref_logits, old_logits = torch.randn(3, 4, 3, dtype=torch.float64)
    logits.requires_grad_()
    sampler = logits if penalty[2] == "nothing" else old_logits
    gradients = {
        "nothing": torch.zeros_like(logits),
        "reverse KL": divergence(logits, ref_logits, sampler, logits),
        "forward KL": divergence(ref_logits, logits, sampler, logits),
    }
    found = descent(*penalty, logits, ref_logits, old_logits)
    same = [name for name, gradient in gradients.items() if torch.allclose(found, gradient)]
    assert same == ([] if direction == "neither" else [direction])


@pytest.mark.parametrize("family", [*FAMILIES, "kl"])
def test_a_chapter_shows_every_family(family):
    shown = [
        path.stem for path in CHAPTERS.glob("*.md") if f'--8<-- "conventions/{family}.md"' in path.read_text("utf-8")
    ]
    assert shown, "no chapter shows it"


def test_a_claim_page_shows_the_same_rows():
    page = claim_page(CLAIMS["dpo.label_smoothing"], Ledger(), "", {})
    (row,) = [line for line in conventions.family("preferences").splitlines() if "ignored" in line and "trl" in line]
    assert row in page
    kl = claim_page(CLAIMS["kl.k3.loss_gradient"], Ledger(), "", {})
    assert conventions.penalties().strip() in kl


def words(text):
    """The words of a page of Markdown, as a reader sees them."""
    html = markdown.markdown(text, extensions=["tables"])
    return unescape(re.sub(r"<[^>]+>", lambda tag: "" if tag[0] in ("<wbr>", "<code>", "</code>") else "\n", html))


def test_a_table_says_what_the_data_say():
    """Also where a name begins with an underscore, which Markdown would take for emphasis."""
    shown = words("\n\n".join([*map(conventions.family, FAMILIES), conventions.penalties()]))
    for _, says, where in STATEMENTS:
        assert says.replace("`", "") in shown
        assert (where if "/" in where else ".".join(where.split(".")[-2:])) in shown
