"""Generated pages: one for each claim, with statuses from the ledger only."""

import json
import re
import shutil
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from grape_spec.coq.certificate import KINDS, certificate
from grape_spec.coq.certify import (
    CERTIFIED,
    NOT_CERTIFIED,
    CertificateRecord,
    coq_statement,
    coq_statement_or_reason,
    states,
    theorems_of,
    write_subjects,
)
from grape_spec.language.registry import CLAIMS, DEFINITIONS, DERIVATIONS, RETIRED
from grape_spec.proof.examine import ClaimRecord, LineRecord, Mutants, PartRecord, WrongRecord, examine
from grape_spec.proof.fingerprint import fingerprints, joint
from grape_spec.render import as_dict

import grape_verified
from grape_verified.conformance import CONTRACTS, Finding, ledger
from grape_verified.conformance.ledger import NOT_RUN, STATUSES, KernelRecord, Ledger, NotALedger, read
from grape_verified.conformance.subjects import SUBJECTS, subject_of
from grape_verified.docs import conformance, graph, markdown, pages, reference, site, verdicts
from grape_verified.docs.citation import metadata
from grape_verified.docs.claim_page import _point, _rounded, claim_page
from grape_verified.docs.copies import copies
from grape_verified.docs.equations import SCHEMA
from tests.test_cli import call

ROOT = Path(__file__).parents[2]
THEME = Path("grape_verified", "docs", "theme")

#: Claims of which there is a record, and what is planted in it.
RECORDED = {
    "ppo.ratio.gradient": "fully proved",
    "trpo.cauchy_schwarz": "proved",  # it uses a claim that is not recorded
    "dpo.reward_shift": "unknown",
    "sft.shift": "refuted",
    "policy.softmax.shift": NOT_RUN,  # recorded for another version of it
}
WITHOUT_RECORD = ("ppo.clip.gradient", "grape.variance")

#: What is planted about claims in Coq and about the kernels that implement them.
PLANTED = {
    "ppo.ratio.gradient": ("certified", "measured"),
    "trpo.cauchy_schwarz": ("not run", "no kernel"),
    "dpo.reward_shift": ("not certified", "no kernel"),
    "sft.shift": ("certified", "rejected"),  # its script has changed since
    "policy.softmax.shift": ("not run", "no kernel"),  # certified for another version of it
    "ppo.clip.gradient": ("not run", "not run"),
}


class Loader(yaml.SafeLoader):
    """Reads the configuration of mkdocs, which takes values from the environment."""


Loader.add_constructor("!ENV", lambda loader, node: loader.construct_sequence(node))


@pytest.fixture(scope="module")
def records():
    return {id: examine(id) for id in RECORDED}


def with_status(record, status):
    """The record as a run would have written it that saw the status."""
    if status == NOT_RUN:
        return replace(record, hash="0" * 64)
    if status not in ("unknown", "refuted"):
        return record
    first, *others = record.parts
    return replace(record, parts=(replace(first, status=status, reason="planted"), *others))


def certificates(id, status=CERTIFIED, **changed):
    """The certificates of a claim, as a run would have written them today but for what is changed."""
    for part in CLAIMS[id].parts:
        entries = [entry for kind in KINDS if (entry := certificate(CLAIMS[id], part, kind)) is not None]
        given = sha256("".join(entry.hash for entry in entries).encode()).hexdigest()
        stated = states(part, CLAIMS[id])
        yield replace(CertificateRecord(id, part.name, status, "", 1.0, (), (), "8.16.1", given, stated), **changed)


CERTIFICATES = (
    *certificates("ppo.ratio.gradient"),
    *certificates("dpo.reward_shift", NOT_CERTIFIED, reason="planted"),
    *certificates("sft.shift", hash="0" * 64),
    *certificates("policy.softmax.shift", states="0" * 64, hash="0" * 64),
)


def kernel(name):
    """A record of a kernel as a run would have written it today; one fails."""
    contract, finding = CONTRACTS[name], Finding("value", "failed" if name == "sft_per_token" else "passed", "")
    mark = joint(contract.rests_on, fingerprints())
    return KernelRecord(name, contract.kernel, (), (), (finding,), contract.rests_on, 1.0, fingerprint=mark)


@pytest.fixture(scope="module")
def generated(tmp_path_factory, records):
    """A copy of the chapters with everything that is generated, over pages of an earlier run."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns(*site.GENERATED))
    shutil.copy(ROOT / "mkdocs.yml", folder)
    shutil.copytree(ROOT / THEME, folder / THEME)
    (folder / "docs" / "claims").mkdir()
    (folder / "docs" / "claims" / "no.such.claim.md").write_text("# of an earlier run", encoding="utf-8")
    planted = [with_status(record, RECORDED[id]) for id, record in records.items()]
    kernels = [kernel(name) for name in ("trpo_per_token", "sft_per_token", "ppo")]
    recorded = ledger.summarise(planted, kernels, 1.0).with_certificates(CERTIFICATES)
    ledger.write(recorded, folder / "ledger.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RETIRED, "ppo.gone", "it said less than ppo.clip.gradient.")
        site.write(folder / "mkdocs.yml", folder / "ledger.json")
    return folder


def page_of(folder, id):
    return (folder / "docs" / "claims" / f"{id}.md").read_text(encoding="utf-8")


def equations(folder):
    found = json.loads((folder / "docs" / "equations.json").read_text(encoding="utf-8"))
    return {entry["id"]: entry for entry in found["claims"]}


def test_every_claim_has_a_page_and_every_definition_a_place(generated):
    found = {path.stem for path in (generated / "docs" / "claims").glob("*.md")} - {"index"}
    assert found == {*CLAIMS, "ppo.gone"}
    listed = page_of(generated, "index")
    assert all(f"../claims/{id}.md" in listed for id in CLAIMS)
    places = "".join(path.read_text(encoding="utf-8") for path in (generated / "docs" / "definitions").glob("*.md"))
    assert all(f"{{ #{id} }}" in places for id in DEFINITIONS)
    snippets = generated / site.SNIPPETS
    assert {path.stem for path in (snippets / "claim").iterdir()} == set(CLAIMS)
    assert {path.stem for path in (snippets / "definition").iterdir()} == set(DEFINITIONS)


def test_the_page_of_trainers_shows_the_recorded_runs(generated):
    page = (generated / "docs" / "conformance" / "index.md").read_text(encoding="utf-8")
    assert "## trl { #trl }" in page
    assert page.count("<details") == sum(
        len(run.functions) for run in conformance.runs(ROOT / "docs" / site.RUNS).values()
    )


def shown_statuses(folder, id):
    """The status of a claim wherever it is shown: page, list, snippet, graph, data."""
    page = page_of(folder, id)
    row = next(line for line in page_of(folder, "index").splitlines() if f"../claims/{id}.md" in line)
    snippet = (folder / site.SNIPPETS / "claim" / f"{id}.md").read_text(encoding="utf-8")
    drawn = (folder / "docs" / "graph.md").read_text(encoding="utf-8")
    node = drawn.split(f'href="../claims/{id}/"')[1].split("</a>")[0]
    marks = {status: markdown.status_mark(status) for status in STATUSES}
    evidence = page.split("## Evidence")[1].split("## False variants")[0]
    texts = {"page": page.split("## Statement")[0], "row": row, "snippet": snippet, "evidence": evidence}
    found = {where: [s for s, mark in marks.items() if mark in text] for where, text in texts.items()}
    found["graph"] = [s for s in STATUSES if f'status-{s.replace(" ", "-")}"' in node]
    found["data"] = [equations(folder)[id]["status"]]
    return found


@pytest.mark.parametrize(("id", "status"), [*RECORDED.items(), *((id, NOT_RUN) for id in WITHOUT_RECORD)])
def test_the_status_is_everywhere_what_the_ledger_says_of_this_version(generated, id, status):
    found = shown_statuses(generated, id)
    assert all(statuses == [status] for statuses in found.values()), found


@pytest.mark.parametrize("id", PLANTED)
def test_what_is_certified_and_what_is_measured_is_everywhere_what_the_ledger_says(generated, id):
    coq, kernels = PLANTED[id]
    path = generated / "ledger.json"
    page = page_of(generated, id)
    assert f"· Coq: [{coq}](#in-coq) · kernels: [{kernels}](#implementation) ·" in page
    evidence = page.split("## Evidence")[1].split("## False variants")[0]
    assert f" · Coq: **{coq}** · kernels: **{kernels}**\n" in evidence
    assert page.split("## Implementation")[1].strip().startswith(f"**{kernels}**")
    row = next(line for line in page_of(generated, "index").splitlines() if f"../claims/{id}.md" in line)
    assert f"| {coq} | {kernels} |" in row
    drawn = (generated / "docs" / "graph.md").read_text(encoding="utf-8")
    assert f"; Coq: {coq}; kernels: {kernels}</title>" in drawn.split(f'href="../claims/{id}/"')[1].split("<rect")[0]
    told = {"status": read(path).status(CLAIMS[id]), "coq": coq, "kernels": kernels}
    assert told.items() <= equations(generated)[id].items()
    (listed,) = json.loads(call("list", id, "--ledger", str(path), "--json")[1])
    assert told.items() <= listed.items()
    assert re.search(rf"{re.escape(id)} .*{coq} +{kernels} ", call("list", id, "--ledger", str(path))[1])
    assert json.loads(call("show", id, "--ledger", str(path), "--json")[1])["verdicts"] == told
    shown = call("show", id, "--ledger", str(path))[1]
    assert f"\nCoq: {coq}\n" in shown
    assert f"\nkernels: {kernels}\n" in shown


def test_the_data_say_of_every_part_what_the_ledger_says(generated):
    found, recorded = equations(generated), read(generated / "ledger.json")
    for id, claim in CLAIMS.items():
        parts, record = found[id]["parts"], recorded.of(claim)
        assert [part["number"] for part in parts] == list(range(1, len(claim.parts) + 1))
        assert [part["name"] for part in parts] == [part.name for part in claim.parts]
        assert [part["coq"] for part in parts] == [recorded.certified_part(claim, part) for part in claim.parts]
        told = [(part.status, part.scope) for part in record.parts] if record else [(NOT_RUN, "")] * len(parts)
        assert [(part["status"], part["scope"]) for part in parts] == told
    assert found["dpo.reward_shift"]["parts"][0]["status"] == "unknown"
    assert found["sft.shift"]["parts"][0]["status"] == "refuted"


def test_the_data_have_symbols_and_sources(generated):
    gradient = equations(generated)["dpo.gradient"]
    assert {"name": "β", "latex": r"\beta", "domain": "positive"}.items() <= gradient["symbols"][0].items()
    assert gradient["source"]["key"] == "rafailov2023direct"
    assert gradient["source"]["arxiv"] == "2305.18290"
    assert gradient["definitions"] == ["dpo.sigmoid", "dpo.margin", "dpo.loss"]
    assert equations(generated)["policy.softmax.shift"]["source"]["arxiv"] == ""


def keys(data):
    """Every key in a document."""
    children = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return set(data if isinstance(data, dict) else ()).union(*map(keys, children))


def test_the_guide_explains_every_key_of_the_data(generated):
    told = (ROOT / "docs" / "cite.md").read_text(encoding="utf-8").split("## For machines")[1]
    data = json.loads((generated / "docs" / "equations.json").read_text(encoding="utf-8"))
    assert data.pop("schema") == SCHEMA
    assert keys(data) - set(data["recorded"]["versions"]) - {"created", "versions"} <= set(re.findall(r"`(\w+)`", told))


def test_a_page_tells_reference_managers_what_it_is():
    claim = CLAIMS["dpo.gradient"]
    tags, linked = metadata(claim, "https://site/").values()
    address = "https://site/claims/dpo.gradient/"
    assert {"citation_title": claim.text.rstrip("."), "citation_public_url": address}.items() <= tags.items()
    assert (linked["identifier"], linked["version"], linked["url"]) == (claim.id, claim.hash, address)
    assert linked["isBasedOn"]["sameAs"] == "https://arxiv.org/abs/2305.18290"
    assert linked["isBasedOn"]["author"][0] == {"@type": "Person", "name": "Rafailov, Rafael"}
    without = metadata(CLAIMS["policy.softmax.shift"], "")
    assert "citation_public_url" not in without["citation"]
    assert not {"url", "isBasedOn"} & set(without["linked"])


def test_a_claim_page_shows_what_coq_is_given(generated):
    for claim in CLAIMS.values():
        page = page_of(generated, claim.id).split("<summary>In Coq</summary>")[1].split("</details>")[0]
        for part in claim.parts:
            assert f"```text\n{coq_statement_or_reason(part, claim)}\n```" in page
    assert "is_derive" in page_of(generated, "ppo.ratio.gradient")


def test_a_claim_page_goes_from_the_statement_to_the_source(generated):
    """What is stated, what it says, how it follows and how others do it are there to read; the evidence is folded."""
    page = page_of(generated, "policy.softmax.jacobian")
    order = (
        "Statement", "In words", "Derivation", "Symbols", "Definitions", "Assumptions", "Conventions across libraries",
        "Implementation", "Evidence", "False variants", "What it uses, and what uses it", "Source", "Cite this",
    )  # fmt: skip
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == list(order)
    assert page.split("## In words")[1].split("##")[0].strip() == CLAIMS["policy.softmax.jacobian"].text
    assert page.split("## Statement")[0].count("{ .action") == 1 + len(list(copies(CLAIMS["policy.softmax.jacobian"])))
    evidence = page.split("## Evidence")[1].split("## False variants")[0]
    titles = ["Proof", "Record of the checker", "In Coq"]
    assert re.findall(r"^<details[^>]* markdown>\n<summary>(.*)</summary>", evidence, re.MULTILINE) == titles
    assert " open" not in evidence


def test_steps_are_unfolded_where_no_derivation_is_for_people():
    stepwise = next(
        c for c in CLAIMS.values() if c.parts[0].by.steps() and not any((c.id, p.name) in DERIVATIONS for p in c.parts)
    )
    assert '<details id="proof" open markdown>' in claim_page(stepwise, Ledger(), "", {})


def test_statements_and_definitions_are_numbered_and_false_variants_are_not(generated):
    mark = '<div class="equation" markdown>'
    for claim in CLAIMS.values():
        page = page_of(generated, claim.id)
        data = as_dict(claim)
        stated = {(part["statement_latex"], *part["assuming_latex"]) for part in data["parts"]}
        numbered = len(stated) + len(data["definitions"])
        assert page.split("## In words")[0].count(mark) == len(stated)
        assert page.split("## Assumptions")[0].count(mark) == page.count(mark) == numbered


def test_certified_theorems_ship_with_the_pages(generated):
    """And only those whose statement and script are the ones that Coq accepted."""
    files = {path.name: path.read_text(encoding="utf-8") for path in (generated / "docs" / "coq").iterdir()}
    assert set(files) == {"Definitions.v", "Tactics.v", "ppo.v"}
    claim = CLAIMS["ppo.ratio.gradient"]
    assert set(coq_statement(*claim.parts, claim).splitlines()) <= set(files["ppo.v"].splitlines())
    assert "(** ppo.ratio.gradient: The ratio is its own derivative" in files["ppo.v"]
    assert "[`ppo.v`](../coq/ppo.v) has the proofs of 1 of 1 parts." in page_of(generated, "ppo.ratio.gradient")
    for id in ("sft.shift", "ppo.clip.gradient", "dpo.reward_shift"):
        assert "has the proofs" not in page_of(generated, id)


def test_the_trust_page_says_which_file_has_what(generated):
    told = (generated / site.SNIPPETS / "certificates.md").read_text(encoding="utf-8")
    assert '--8<-- "certificates.md"' in (generated / "docs" / "trust.md").read_text(encoding="utf-8")
    parts = {name: sum(len(c.parts) for c in CLAIMS.values() if subject_of(c.id) == name) for name in SUBJECTS}
    assert f"| PPO | 1 | 0 | {parts['ppo'] - 1} | [`ppo.v`](coq/ppo.v), 1 of {parts['ppo']} parts |" in told
    assert f"| Supervised fine-tuning | 3 | 0 | {parts['sft'] - 3} | none |" in told
    assert f"| GRAPE | 0 | 0 | {parts['grape']} | not run |" in told


def test_the_home_page_counts_what_the_ledger_has(generated, records):
    assert '--8<-- "evidence.md"' in (generated / "docs" / "index.md").read_text(encoding="utf-8")
    told = (generated / site.SNIPPETS / "evidence.md").read_text(encoding="utf-8")
    counted = dict(re.findall(r"^\| (.*?) \| .* \| (.*) \|$", told, re.MULTILINE))
    statuses = [entry["status"] for entry in equations(generated).values()]
    assert counted["[claims](claims/index.md)"] == f"{statuses.count('fully proved')} of {len(CLAIMS)}"
    parts = [part["coq"] for entry in equations(generated).values() for part in entry["parts"]]
    assert counted["statements of claims"] == f"{parts.count('certified')} of {len(parts)}"
    assert counted["contracts of PyTorch functions"] == f"2 of {len(CONTRACTS)}"
    of_today = [record for id, record in records.items() if RECORDED[id] != NOT_RUN]
    wrong = [variant.refuted for record in of_today for variant in record.wrong]
    assert counted["false variants of claims"] == f"{sum(wrong)} of {len(wrong)}"
    nothing = pages.evidence_snippet(Ledger(), {id: verdicts.verdicts(CLAIMS[id], Ledger()) for id in CLAIMS})
    rows = [row for row in nothing.splitlines() if row.startswith("| ")][1:]
    assert len(rows) == 5
    assert all(row.endswith("| not run |") for row in rows), rows


def test_without_certificates_nothing_ships_but_the_library(tmp_path):
    write_subjects(theorems_of(()), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Definitions.v", "Tactics.v"]
    rows = pages.certificates_snippet(Ledger(), {}).strip().splitlines()[2:]
    assert len(rows) > 10
    assert all(row.endswith("| not run |") for row in rows)


def test_the_numbers_of_the_evidence_are_those_of_the_ledger(generated, records):
    part = records["ppo.ratio.gradient"].parts[0]
    page = page_of(generated, "ppo.ratio.gradient")
    assert f"| {part.points.effective} of {part.points.drawn} |" in page
    assert f"| {part.mutants.refuted} of {part.mutants.total} |" in page
    assert "unknown: planted" in page_of(generated, "dpo.reward_shift")


def test_a_retired_id_keeps_a_page(generated):
    page = page_of(generated, "ppo.gone")
    assert "retired" in page
    assert "it said less than ppo.clip.gradient." in page
    assert "ppo.gone" in page_of(generated, "index")


def test_the_graph_knows_every_status():
    assert set(graph.STATUSES) == set(STATUSES)


def at_sizes(record, *scopes):
    """The record with parts that are proved in these scopes."""
    return replace(record, parts=tuple(replace(record.parts[0], scope=scope) for scope in scopes))


@pytest.fixture
def proved(records):
    return replace(records["ppo.ratio.gradient"], waits_for=())


def test_what_is_proved_for_sizes_or_rests_on_less_is_not_fully_proved(proved):
    claim = CLAIMS[proved.id]
    assert Ledger(claims=(proved,)).status(claim) == "fully proved"
    assert Ledger(claims=(at_sizes(proved, "n = 2, 3"),)).status(claim) == "proved at chosen sizes only"
    assert Ledger(claims=(replace(proved, waits_for=("kl.log_bound",)),)).status(claim) == "proved"
    assert Ledger(claims=(replace(proved, waits_for=None),)).status(claim) == "proved", "nobody looked"


def test_parts_at_chosen_sizes_are_mentioned(proved):
    claim = CLAIMS[proved.id]
    assert "chosen sizes" not in markdown.standing(claim, Ledger(claims=(proved,)))
    mixed = at_sizes(proved, "all sizes", "V = 2, T = 3")
    assert markdown.standing(claim, Ledger(claims=(mixed,))).endswith("with parts at chosen sizes")


def test_kernels_are_not_run_for_other_code():
    findings = tuple(Finding(status, status, "") for status in ("passed", "noted"))
    record = KernelRecord("ppo", "ppo_loss", (), (), findings, (), 1.0, fingerprint=joint((), {}))
    seen = Ledger(kernels=(record,), versions=ledger.code())
    assert verdicts.kernel_verdict("ppo", seen) == "accepted, 1 of 2 properties"
    for name in ledger.code():
        assert verdicts.kernel_verdict("ppo", replace(seen, versions={**ledger.code(), name: "other"})) == NOT_RUN
    assert verdicts.kernel_verdict("ppo", Ledger()) == NOT_RUN


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    (tmp_path / "ledger.json").write_text('{"claims": 3}', encoding="utf-8")
    with pytest.raises(NotALedger, match="is not a grape-verified ledger"):
        read(tmp_path / "ledger.json")


def test_every_public_name_has_one_place_in_the_reference():
    placed = [name for subject in SUBJECTS for name in reference.names_of(subject)]
    assert sorted(placed) == sorted(set(grape_verified.__all__) - {"__version__"})


def test_every_claim_and_definition_is_of_a_subject():
    assert {subject_of(id) for id in (*CLAIMS, *DEFINITIONS)} == set(SUBJECTS)


def navigation(section):
    """The titles and files of a section of the navigation, in order."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    entries = next(entry[section] for entry in config["nav"] if section in entry)
    return [(title, path) for entry in entries for title, path in entry.items()]


def test_the_navigation_follows_the_subjects():
    chapters = {}
    for subject in SUBJECTS.values():
        chapters.setdefault(f"chapters/{subject.chapter}.md", subject.title)
    told = [(title, path) for path, title in chapters.items()]
    assert navigation("Chapters") == [*told, ("Numerics", "chapters/numerics.md")]
    assert navigation("Reference") == [(s.title, f"reference/{s.name}.md") for s in SUBJECTS.values() if s.modules]


def test_a_page_names_the_functions_whose_contracts_evaluate_it():
    """The docstring of ppo_loss gives theorems; that it computes the ratio is what its contract says."""
    assert "ppo.ratio" in CONTRACTS["ppo"].rests_on
    assert "[`ppo_loss`](../reference/ppo.md#grape_verified.ppo_loss)" in pages.definitions_page("ppo")
    assert "../definitions/ppo.md#ppo.ratio" in pages.reference_page("ppo", Ledger())


def test_the_inventory_names_claims_and_functions():
    objects = {(entry.domain, entry.name): entry.uri for entry in site.inventory().objects}
    assert objects["std", "ppo.clip.gradient"] == "claims/ppo.clip.gradient/"
    assert objects["std", "ppo.ratio"] == "definitions/ppo/#ppo.ratio"
    assert objects["py", "grape_verified.ppo_loss"] == "reference/ppo/#grape_verified.ppo_loss"
    assert {name for domain, name in objects if domain == "std"} == set(CLAIMS) | set(DEFINITIONS)


def test_no_plugin_that_zensical_would_ignore():
    """It rebuilds its own list of plugins, and silently skips all others."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    names = {plugin if isinstance(plugin, str) else next(iter(plugin)) for plugin in config["plugins"]}
    assert names <= {"search", "mkdocstrings"}
    assert "hooks" not in config


@pytest.mark.parametrize(
    "record", [Ledger, ClaimRecord, PartRecord, LineRecord, Mutants, WrongRecord, KernelRecord, CertificateRecord]
)
def test_the_guide_explains_every_key_of_the_ledger(record):
    told = (ROOT / "docs" / "guide" / "reading.md").read_text(encoding="utf-8").split("## The ledger file")[1]
    keys = {field.name for field in fields(record)} | set(getattr(record, "DERIVED", ()))
    assert keys <= set(re.findall(r"`(\w+)`", told.split("## ")[0]))


def test_a_witness_is_shown_with_the_symbols_of_the_page_and_in_six_digits():
    ball = {"left side": "[0.21781913908348006684 +/- 6.67e-22]", "right side": "-1.5"}
    shown = _point({"clip_low": "1/2", "advantage": "1/4", **ball})
    assert shown == r"$\varepsilon$ = `1/2`, $A$ = `1/4`; the left side is 0.217819, the right side is -1.5"
    assert _point({"clip_low": "1/2"}) == r"$\varepsilon$ = `1/2`"
    assert _rounded("[3.99e-21 +/- 1e-30]") == "3.99e-21"
    assert _rounded("no value: a division by zero") == "no value: a division by zero"
