"""The error bounds that docstrings call theorems are theorems of Coq, from the hypotheses that they name."""

import inspect
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import grape_spec
import pytest

import grape_verified

SOURCES = Path(grape_spec.__file__).parent / "coq" / "rounding"
THEOREM = re.compile(r"^Theorem (\w+)", re.MULTILINE)

#: The axioms of Coq's real numbers.
AXIOMS = {
    "ClassicalDedekindReals.sig_not_dec",
    "ClassicalDedekindReals.sig_forall_dec",
    "FunctionalExtensionality.functional_extensionality_dep",
    "Classical_Prop.classic",
}

#: What the files of the kernels share, in the order of compilation.
SHARED = ("Model", "LogSigmoid")

SECONDS = 300  # far above what a file takes, so that a slow machine does not fail the test

needs_coq = pytest.mark.skipif(
    shutil.which("coqc") is None, reason="coqc is not installed: apt-get install --no-install-recommends coq"
)


@dataclass(frozen=True)
class Bound:
    """A bound, as the docstring of a function and as a theorem state it, and a smaller one that its proof must fail."""

    function: str
    file: str
    theorem: str
    stated: str
    proved: str
    smaller: str


BOUNDS = [
    Bound(
        "ppo_per_token", "PpoPerToken", "ppo_per_token_error",
        "4·u·(|logp − old_logp| + 1)·|value|",
        "4 * u * (Rabs (logp - old_logp) + 1) * Rabs value",
        "3 * u * (Rabs (logp - old_logp) + 1) * Rabs value",
    ),
    *(
        Bound(
            f"{name}_per_token", f"{name.capitalize()}PerToken", f"{name}_per_token_error",
            "4·u·(|logp − old_logp| + 1)·|value|",
            "4 * u * (Rabs (logp - old_logp) + 1) * Rabs value",
            "3 * u * (Rabs (logp - old_logp) + 1) * Rabs value",
        )
        for name in ("trpo", "cispo")
    ),
    Bound(
        "kl_estimate", "KlEstimate", "kl_estimate_k1_error",
        "u·|value| for k1", "<= u * Rabs (logp - ref_logp)", "<= 1/2 * u * Rabs (logp - ref_logp)",
    ),
    Bound(
        "bradley_terry_per_pair", "BradleyTerryPerPair", "bradley_terry_per_pair_error",
        "4·u·(|r_w − r_l| + 1)",
        "4 * u * (Rabs (chosen - rejected) + 1)",
        "3 * u * (Rabs (chosen - rejected) + 1)",
    ),
    Bound("kl_estimate", "KlEstimate", "kl_estimate_k2_error", "4·u·value for k2", "4 * u * value", "3 * u * value"),
    Bound(
        "kl_estimate", "KlEstimate", "kl_estimate_k3_error",
        "4·u·((|x| + 1)·|exp(x) − 1| + |x|) for k3",
        "4 * u * ((Rabs x + 1) * Rabs (exp x - 1) + Rabs x)",
        "3 * u * ((Rabs x + 1) * Rabs (exp x - 1) + Rabs x)",
    ),
    Bound(
        "kl_estimate", "KlEstimate", "kl_estimate_k3_slope_error",
        "4·u·((|x| + 1)·exp(x) + 1) for k3",
        "4 * u * ((Rabs x + 1) * exp x + 1)",
        "3 * u * ((Rabs x + 1) * exp x + 1)",
    ),
    Bound(
        "dpo_per_pair", "DpoPerPair", "dpo_per_pair_error",
        "8·u·(β|l_w − l_w^ref| + β|l_l − l_l^ref| + 1)",
        "8 * u * (log_ratios + 1)",
        "7 * u * (log_ratios + 1)",
    ),
    Bound(
        "value_loss_per_token", "ValueLossPerToken", "value_loss_per_token_error",
        "without `clip` |error| ≤ 4·u·value", "4 * u * value.", "3 * u * value.",
    ),
    Bound(
        "value_loss_per_token", "ValueLossPerToken", "value_loss_per_token_clipped_error",
        "4·u·(value + √(2·value)·s + u·s²) with s = |V_old| + c",
        "4 * u * (value + sqrt (2 * value) * s + u * s ^ 2)",
        "4 * u * (value + sqrt (2 * value) * s)",
    ),
    Bound(
        "aggregate", "Aggregate", "aggregate_error",
        "1.01·(h + 6)·u·S", "101/100 * (h + 6) * u * size r", "101/100 * (h + 5) * u * size r",
    ),
    Bound(
        "reinforce_per_token", "ReinforcePerToken", "reinforce_per_token_error",
        "|error| ≤ u·|value|", "<= u * Rabs value", "<= 1/2 * u * Rabs value",
    ),
]  # fmt: skip

#: Hypotheses that a proof needs: the accuracy of a library function, as it is assumed, and a worse one.
WORSE = {
    "ppo_per_token_error": ("within_ulps 1 u (exp d) rho", "within_ulps 2 u (exp d) rho"),
    "trpo_per_token_error": ("within_ulps 1 u (exp d) rho", "within_ulps 2 u (exp d) rho"),
    "cispo_per_token_error": ("within_ulps (9/10) u (exp d) rho", "within_ulps 1 u (exp d) rho"),
    "bradley_terry_per_pair_error": ("computes_log_sigmoid (3/2) u eta m y", "computes_log_sigmoid 2 u eta m y"),
    "kl_estimate_k3_error": ("within_ulps 2 u (exp (- d) - 1) e", "within_ulps 3 u (exp (- d) - 1) e"),
    "kl_estimate_k3_slope_error": ("within_ulps 1 u (exp (- d) - 1) e", "within_ulps 2 u (exp (- d) - 1) e"),
}

THEOREMS = {name: path.stem for path in sorted(SOURCES.glob("*.v")) for name in THEOREM.findall(path.read_text())}


def docstring(function):
    return " ".join(inspect.getdoc(getattr(grape_verified, function)).split())


def named_theorems(function):
    """The theorems that a docstring names."""
    found = re.findall(r"\(theorems? ([a-z0-9_, ]+?)(?:, for [^)]*)?\)", docstring(function))
    return [name for names in found for name in re.findall(r"\w*_\w+", names)]


def statement(theorem):
    """Where the statement of a theorem stands in its file: text, start, end."""
    text = (SOURCES / f"{THEOREMS[theorem]}.v").read_text()
    start = text.index(f"Theorem {theorem} ")
    return text, start, text.index("Proof.", start)


def beyond_a_sample(names, *sample):
    """The names as parameters of a test; the default tier tries those of the sample."""
    marks = pytest.mark.full("all but a sample of what Coq checks")
    return [name if name in sample else pytest.param(name, marks=marks) for name in names]


def compiled(folder, name):
    """Run coqc on a file of a folder."""
    return subprocess.run(
        ["coqc", "-q", "-Q", ".", "Rounding", f"{name}.v"],
        cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder with the sources, what they share compiled. Coq writes beside what it reads."""
    folder = tmp_path_factory.mktemp("rounding")
    for path in SOURCES.glob("*.v"):
        shutil.copy(path, folder)
    for name in SHARED:
        result = compiled(folder, name)
        assert result.returncode == 0, result.stderr
    return folder


# -- docstrings, theorems and their statements agree ------------------------------------------------------------------


def test_there_are_proofs():
    assert {*SHARED, *(bound.file for bound in BOUNDS)} == {path.stem for path in SOURCES.glob("*.v")}


def test_docstrings_name_exactly_the_theorems_that_are_listed():
    functions = [name for name in grape_verified.__all__ if inspect.isfunction(getattr(grape_verified, name))]
    named = {(function, theorem) for function in functions for theorem in named_theorems(function)}
    assert named == {(bound.function, bound.theorem) for bound in BOUNDS}
    assert {bound.theorem: bound.file for bound in BOUNDS}.items() <= THEOREMS.items()


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.theorem)
def test_the_bound_of_the_docstring_is_the_conclusion_of_the_theorem(bound):
    text, start, end = statement(bound.theorem)
    conclusion = text[start:end].strip().split("->\n")[-1]
    assert bound.stated in docstring(bound.function)
    assert " ".join(conclusion.split()).removesuffix(".").endswith(bound.proved.removesuffix("."))


def test_nothing_is_left_out_of_a_proof():
    for path in SOURCES.glob("*.v"):
        assert not re.search(r"\b(Admitted|admit|Axiom|Parameter|Hypothesis|Variable|Conjecture)\b", path.read_text())


# -- Coq accepts them, and refuses what is not so ---------------------------------------------------------------------


@needs_coq
@pytest.mark.parametrize("file", beyond_a_sample(sorted(set(THEOREMS.values())), "ReinforcePerToken"))
def test_coq_accepts_the_proofs_with_the_axioms_of_the_reals_alone(file, library):
    theorems = [name for name, place in THEOREMS.items() if place == file]
    asked = [f"Print Assumptions {name}." for name in theorems]
    (library / f"With{file}.v").write_text("\n".join([(SOURCES / f"{file}.v").read_text(), *asked]))
    result = compiled(library, f"With{file}")
    assert result.returncode == 0, result.stderr
    answers = re.findall(r"^(?:Axioms:|Closed under the global context)$", result.stdout, re.MULTILINE)
    assert len(answers) == len(theorems)
    assert set(re.findall(r"^(\S+)\s*:", result.stdout, re.MULTILINE)) - {"Axioms"} <= AXIOMS


def refused(theorem, old, new, library):
    """Compile a theorem with a changed statement; return whether its proof fails, and nothing else does."""
    text, start, end = statement(theorem)
    assert text[start:end].count(old) == 1
    name = f"Changed_{theorem}"
    (library / f"{name}.v").write_text(text[:start] + text[start:end].replace(old, new) + text[end:])
    result = compiled(library, name)
    place = re.search(r"line (\d+), characters", result.stderr)
    if result.returncode == 0 or place is None:
        return False
    first = text[:end].count("\n") + 1
    return first <= int(place[1]) <= first + text[end : text.index("Qed.", end)].count("\n")


@needs_coq
@pytest.mark.parametrize("theorem", beyond_a_sample([bound.theorem for bound in BOUNDS], "reinforce_per_token_error"))
def test_coq_refuses_a_smaller_bound(theorem, library):
    (bound,) = (bound for bound in BOUNDS if bound.theorem == theorem)
    assert refused(theorem, bound.proved, bound.smaller, library)


@needs_coq
@pytest.mark.full("all but a sample of what Coq checks")
@pytest.mark.parametrize("theorem", WORSE)
def test_coq_refuses_a_less_accurate_library_function(theorem, library):
    assert refused(theorem, *WORSE[theorem], library)


@needs_coq
def test_what_is_refused_is_accepted_unchanged(library):
    """So a refusal comes from the change."""
    assert not refused("reinforce_per_token_error", "<= u * Rabs value", "<= u * Rabs value", library)
