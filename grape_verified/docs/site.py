"""The site as a whole: generated pages are written beside the chapters, and mkdocs builds or serves them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import sphobjinv
from grape_spec.coq.certify import Theorems, theorems_of, write_subjects
from grape_spec.language.registry import CLAIMS, DEFINITIONS, RETIRED
from grape_spec.paper.check import WrongFormula, differences
from mkdocs.__main__ import State
from mkdocs.commands import serve as mkdocs_serve
from mkdocs.config import load_config

from grape_verified import __version__
from grape_verified.conformance.ledger import Ledger, read
from grape_verified.conformance.subjects import SUBJECTS
from grape_verified.docs import (
    claim_page,
    conformance,
    conventions,
    derivations,
    equations,
    figures,
    graph,
    mathematics,
    pages,
    reference,
    search,
    sources,
    symbols,
)
from grape_verified.docs.markdown import address_of
from grape_verified.docs.verdicts import Verdicts, verdicts

#: The folder of snippets for the chapters, relative to the configuration of mkdocs, which names it.
SNIPPETS = Path(".snippets")

#: Generated files in the folder of the chapters; they are deleted first, so that no outdated page stays.
GENERATED = (
    *("claims", "definitions", "reference", "coq"),
    *("graph.md", "conformance/index.md", "equations.json", "objects.inv"),
)

#: The recorded runs of profiles, in the folder of the chapters.
RUNS = "conformance"


def write(config_file: Path, ledger_file: Path) -> None:
    """Write every generated page, the snippets for the chapters, the files for Coq, equations.json and objects.inv.

    Raises: NotALedger; NotARun for a record of a profile that cannot be read.
    """
    ledger = read(ledger_file)
    config = load_config(str(config_file))
    docs, snippets = Path(config.docs_dir), config_file.resolve().parent / SNIPPETS
    for old in [snippets, *(docs / name for name in GENERATED)]:
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    theorems = theorems_of(ledger.certificates)
    write_subjects(theorems, docs / "coq")
    found = {claim.id: verdicts(claim, ledger) for claim in CLAIMS.values()}
    for name, text in _pages(ledger, config.site_url or "", found, theorems):
        _put(docs / name, text)
    for name, text in _snippets(ledger, found, theorems):
        _put(snippets / name, text)
    for chapter in sorted((docs / "chapters").glob("*.md")):
        _put(snippets / "sources" / chapter.name, sources.snippet(chapter.read_text(encoding="utf-8")))
    _put(docs / RUNS / "index.md", conformance.conformance_page(conformance.runs(docs / RUNS)))
    data = equations.equations(ledger, config.site_url or "", found)
    _put(docs / "equations.json", json.dumps(data, indent=1, ensure_ascii=False))
    (docs / "objects.inv").write_bytes(sphobjinv.compress(inventory().data_file()))


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def _pages(ledger: Ledger, site: str, found: Mapping[str, Verdicts], theorems: Theorems) -> Iterator[tuple[str, str]]:
    yield "claims/index.md", pages.claims_index(ledger, found)
    for claim in CLAIMS.values():
        yield f"claims/{claim.id}.md", claim_page.claim_page(claim, ledger, site, theorems)
    for id, reason in RETIRED.items():
        yield f"claims/{id}.md", claim_page.retired_page(id, reason)
    for name, subject in SUBJECTS.items():
        yield f"definitions/{name}.md", pages.definitions_page(name)
        if subject.modules:
            yield f"reference/{name}.md", pages.reference_page(name, ledger)
    yield "definitions/symbols.md", symbols.index_page()
    yield "graph.md", pages.graph_page(graph.claim_graph(found), ledger)


def _snippets(ledger: Ledger, found: Mapping[str, Verdicts], theorems: Theorems) -> Iterator[tuple[str, str]]:
    yield "certificates.md", pages.certificates_snippet(ledger, theorems)
    yield "evidence.md", pages.evidence_snippet(ledger, found)
    for claim in CLAIMS.values():
        yield f"claim/{claim.id}.md", pages.claim_snippet(claim, ledger)
    for definition in DEFINITIONS.values():
        yield f"definition/{definition.id}.md", pages.definition_snippet(definition)
    for name in figures.FIGURES:
        yield f"figure/{name}.md", figures.snippet(name)
    for family in conventions.FAMILIES:
        yield f"conventions/{family}.md", conventions.family(family)
    yield "conventions/kl.md", conventions.penalties()


def inventory() -> sphobjinv.Inventory:
    """The inventory for links from other sites: claims and definitions as labels, public names as Python objects."""
    found = sphobjinv.Inventory()
    found.project, found.version = "grape_verified", __version__
    texts = {id: claim.text for id, claim in CLAIMS.items()} | {id: entry.text for id, entry in DEFINITIONS.items()}
    for id, text in texts.items():
        found.objects.append(_object(id, "std", "label", address_of(id), text))
    for subject in SUBJECTS:
        for name in reference.names_of(subject):
            full = f"grape_verified.{name}"
            found.objects.append(_object(full, "py", reference.role_of(name), f"reference/{subject}/#{full}", "-"))
    return found


def _object(name: str, domain: str, role: str, uri: str, shown: str) -> sphobjinv.DataObjStr:
    return sphobjinv.DataObjStr(name=name, domain=domain, role=role, priority="1", uri=uri, dispname=shown)


def build(config_file: Path, site: Path, ledger: Path) -> None:
    """Write the generated pages and build the site, strictly, with a search index that knows other names.

    Raises: NotALedger; NotARun; BrokenDerivation; WrongFormula; CalledProcessError where mkdocs warns of anything;
        BrokenMathematics.
    """
    if wrong := differences():
        raise WrongFormula("\n".join(wrong))
    if broken := list(derivations.faults(read(ledger))):
        raise derivations.BrokenDerivation("\n".join(broken))
    write(config_file, ledger)
    command = ("build", "--strict", "--config-file", str(config_file), "--site-dir", str(site.resolve()))
    subprocess.run([sys.executable, "-m", "mkdocs", *command], check=True)
    search.refine(site / "search" / "search_index.json")
    mathematics.typeset(site, Path(load_config(str(config_file)).docs_dir) / mathematics.KATEX)


def serve(config_file: Path, ledger: Path) -> None:
    """Write the generated pages and serve the site, which is rebuilt when a chapter changes."""
    write(config_file, ledger)
    State()  # what mkdocs says goes to the terminal
    mkdocs_serve.serve(str(config_file), hooks=[mathematics.__file__])
