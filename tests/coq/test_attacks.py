"""Attacks on what a certificate says: whatever stands in a script, a claim, Coq's place or the ledger."""

import os
from dataclasses import replace

import pytest
import sympy as sp
from grape_spec.coq import certificate as certificates
from grape_spec.coq import certify as certify_module
from grape_spec.coq import coqtop
from grape_spec.coq.certificate import Certificate, NotCertified, axioms_in, certify
from grape_spec.coq.certify import CERTIFIED, NOT_CERTIFIED, CertificateRecord, certify_claims, settled
from grape_spec.coq.coqtop import CoqMissing, Session
from grape_spec.coq.printer import Unstated, coq_id, coq_name
from grape_spec.coq.statement import definition_text, stated
from grape_spec.coq.values import defined
from grape_spec.language import (
    At,
    Diff,
    PositionOn,
    Real,
    cases,
    define,
    delta,
    equals,
    family,
    implies,
    registry,
    sum_over,
    symbol,
)  # fmt: skip
from grape_spec.language.expressions import OneSided
from grape_spec.language.registry import claim_of

from tests.coq.reading import read
from tests.coq.test_certificates import fake, proof
from tests.spec.attacks import world as w
from tests.spec.attacks.world import c, d, i, j, n, onward, s, u, v, x, y, z


@pytest.fixture
def world():
    """What the attacks speak of is declared, and no text is kept of what a test defines."""
    with w.entered():
        yield
    definition_text.cache_clear()
    defined.cache_clear()


# -- statements --------------------------------------------------------------------------------------------------


def multiplied_out(term):
    """An equation that every number satisfies, so that only the value of a term is in question."""
    return equals(term * (y - z), term * y - term * z)


def put_in():
    """An index up to n at an axis of size c, which a size that is put in makes of an axis of size n."""
    entry = define("at.entry", "", (n, i, u), u[i])
    return multiplied_out(entry(c, i, family("at_w", Real, c, text="numbers")))


#: Statements that are true wherever they have a value, and what must hold besides.
NO_VALUE = {
    "a delta of differences of positions, at its left": (lambda: multiplied_out(delta(i - 2, j - 1)), "2 <= at_i"),
    "a delta of differences of positions, at its right": (lambda: multiplied_out(delta(i - 2, j - 1)), "1 <= at_j"),
    "a derivative in an entry beyond the axis": (lambda: equals(Diff(u[i], u[i + 1]), 0), "1 <= 1 + at_i <= at_n"),
    "the same on the right": (lambda: equals(0, Diff(u[i], u[i + 1])), "1 <= 1 + at_i <= at_n"),
    "at a position beyond the axis": (lambda: multiplied_out(At(u[i], i, i + 1)), "1 <= 1 + at_i <= at_n"),
    "at a position below the axis": (lambda: multiplied_out(At(u[i], i, i - 1)), "1 <= at_i - 1 <= at_n"),
    "at position 0": (lambda: multiplied_out(At(u[i], i, 0)), "1 <= 0 <= at_n"),
    "a position on an axis whose size is put in": (put_in, "1 <= at_i <= at_c"),
    "an entry beyond the axis": (lambda: multiplied_out(u[n + 1]), "1 <= 1 + at_n <= at_n"),
    "an entry by a position on another axis": (lambda: multiplied_out(u[s]), "1 <= at_s <= at_n"),
    "a position that a position beyond the axis leads to": (
        lambda: multiplied_out(u[onward[i + 1]]), "1 <= 1 + at_i <= at_n",
    ),
    "entries beyond the axis in a sum": (
        lambda: multiplied_out(sum_over(u[i + 1], i)), "forall at_i : nat, 1 <= at_i <= at_n -> 1 <= 1 + at_i <= at_n",
    ),
    "a function of an index below 0": (lambda: multiplied_out(w.f(i - 2, x)), "2 <= at_i"),
    "a definition at a position beyond its axis": (lambda: multiplied_out(w.pick(i + 1, u)), "1 <= 1 + at_i <= at_n"),
    "a divisor that cancels": (lambda: multiplied_out(w.over(x, x)), "at_over_defined at_x at_x"),
    "a step of a recursion without a value": (lambda: multiplied_out(w.cut(d, x)), "at_cut_defined at_d at_x"),
    "a logarithm times 0": (lambda: equals(sp.Mul(0, sp.log(x), evaluate=False), 0), "0 < at_x"),
    "a derivative that does not exist": (
        lambda: multiplied_out(Diff(sp.Abs(x), x)), "ex_derive (fun at_x => Rabs at_x) at_x",
    ),
    "a slope at a point without a value": (lambda: equals(OneSided(1 / x, x, 0, 1), 7), "let at_x := 0 in at_x <> 0"),
    "a condition of cases": (
        lambda: multiplied_out(cases((y, sp.Gt(sp.log(x), 0, evaluate=False)), (z, True))), "0 < at_x",
    ),
    "a premise": (
        lambda: implies(sp.Gt(1 / x, 0, evaluate=False), sp.Gt(1 / x, 0, evaluate=False)), "at_x <> 0",
    ),
    "a family by a formula": (
        lambda: multiplied_out(w.total(sp.Lambda(i, 1 / v[i]))),
        "forall at_i : nat, 1 <= at_i <= at_n -> at_v at_i <> 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_VALUE)
def test_what_may_have_no_value_is_asked_of_coq(world, kind):
    write, need = NO_VALUE[kind]
    assert read(need) in [read(found) for found in stated(write()).needs]


@pytest.mark.parametrize("kind", list(NO_VALUE)[:4])
def test_without_a_value_a_true_theorem_is_not_enough(coq, world, kind):
    """Coq accepts the equation, for its subtraction ends at 0 and its families have all entries, but not the value."""
    statement = stated(NO_VALUE[kind][0]())
    outside = "intros; unfold upd; destruct (Nat.eq_dec _ _); [lia | reflexivity]"
    constant = f"apply (is_derive_ext (fun _ => at_u at_i)); [{outside} | apply @is_derive_const]"
    script = f"intros; first [ring | symmetry; apply is_derive_unique; {constant} | {constant}]."
    assert certify(coq, Certificate("true", statement.theorem("true"), (script,), statement.definitions), 30)
    script = "intros; repeat split; try apply I; intros; try lia; try lra."
    with pytest.raises(NotCertified, match=r"incomplete proof|unresolved"):
        certify(coq, Certificate("value_defined", statement.value_theorem("value"), (script,), ()), 30)


def named_as_a_definition():
    return equals(define("at.hidden", "", (), sp.Integer(5))(), symbol("at_hidden", Real, "a number"))


def bound_as_a_definition():
    hidden = define("at.hidden", "", (), sp.Integer(5))
    row = w.index("at_hidden", n, "a row")
    return equals(sum_over(row, row), sum_over(hidden(), row))


def argument_named_as_a_definition():
    hidden, number = define("at.hidden", "", (), sp.Integer(5)), symbol("at_hidden", Real, "a number")
    return equals(define("at.both", "", (number,), hidden() - number)(), 0)


def inner_size():
    inner = define("at.inner", "", (u,), sum_over(u[i], i))
    outer = define("at.outer", "", (n, u), inner(u) + n)
    return multiplied_out(outer(c, family("at_w", Real, c, text="numbers")))


def leads_elsewhere():
    of_n = family("at_of_n", PositionOn(n), n, c, text="where")
    of_c = family("at_of_c", PositionOn(c), c, n, text="where")
    entry = define("at.entry", "", (n, c, j, s, u, of_n), u[of_n[j, s]])
    return multiplied_out(entry(c, n, s, i, family("at_w", Real, c, text="numbers"), of_c))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (named_as_a_definition, "has the name of a definition"),
        (bound_as_a_definition, "has the name of a definition"),
        (argument_named_as_a_definition, "has the name of a definition"),
        (inner_size, "takes from its families"),
        (leads_elsewhere, "an axis of another size"),
    ],
)
def test_what_coq_would_read_otherwise_has_no_form(world, write, words, monkeypatch):
    monkeypatch.setattr(registry, "_refuse_kept_sizes", lambda entry: None)
    with pytest.raises(Unstated, match=words):
        stated(write())


def test_two_symbols_never_share_a_name(coq, world):
    one, other = symbol("α", Real, "a number"), symbol("u3b1", Real, "a number")
    things = [one, other, *(symbol(name, Real, "a number") for name in ("ﬁ", "ufb01", "w0", "w0_", "w0__", "R", "R_"))]
    assert len(set(map(coq_name, things))) == len(things)
    with pytest.raises(NotCertified, match="unify"):
        certify(coq, proof(stated(equals(one, other)).theorem("t").partition(":")[2].rstrip("."), "reflexivity."), 30)


@pytest.mark.parametrize("id", ["is.derive", "ex.derive", "at.right", "at.left", "slope.above", "has.slope_below"])
def test_no_definition_has_the_name_of_what_statements_speak_of(id):
    assert coq_id(id) == id.replace(".", "_") + "_"


def test_tactics_hide_nothing_that_statements_speak_of(coq):
    """What is stated before they are loaded says the same after."""
    text = """forall (n : nat) (f : nat -> R) (g : nat -> nat -> R) (k : nat -> nat -> nat -> R) (x : R),
        (1 <= n < 3)%nat ->
        (sum1 n f - prod1 n f + delta n 1%nat * upd f n x n / 2 = - upd2 g n n x n n ^ 2 /\\ x <> 0 \\/ ~ (x <= 1)) ->
        (upd3 k n n n x n n n < Rmin x 1 <-> Rmax x 2 > Rabs x) -> locally x (fun x => ln x >= exp (sqrt (INR n))) ->
        at_right x (fun x => if (negb (Rltb x 1) && Rleb x 1 || Reqb x 1)%bool then True else False) ->
        at_left x (fun x => let y := x in y = 1) -> slope_above f1 x 1 -> slope_below f1 x 1 -> has_slope_above f1 x ->
        has_slope_below f1 x -> ex_derive f1 x -> is_derive f1 x (Derive f1 x)""".replace("f1", "(fun x => x)")
    header = coqtop.HEADER.replace(" Tactics.", ".")
    assert header != coqtop.HEADER
    with Session(coq._folder, header) as before:
        before_and_after = (
            f"Definition said : Prop := {text}.\nFrom Grape Require Import Tactics.\nOpen Scope R_scope.\n"
        )
        assert before.ask(before_and_after, 60).error == ""
        assert before.ask(f"Check (eq_refl : said = ({text})).", 60).error == ""
        assert before.ask(f"Check (eq_refl : said = ({text.replace('sum1', 'prod1')})).", 60).error


# -- scripts -----------------------------------------------------------------------------------------------------

#: Proofs of False, if their commands are not seen.
CHEATS = {
    "a comment before a command": ("(* *) Abort.", "(* *) Theorem planted : True.", "exact I."),
    "a loop": (
        "(* *) Abort.", "(* *) Unset Guard Checking.", "(* *) Fixpoint loop_ (n : nat) : False := loop_ n.",
        "(* *) Theorem planted : False.", "exact (loop_ 0%nat).",
    ),
    "an axiom under an allowed name": (
        "(* *) Abort.", "(* *) Module Classical_Prop.", "(* *) Axiom classic : False.", "(* *) End Classical_Prop.",
        "(* *) Theorem planted : False.", "exact Classical_Prop.classic.",
    ),
    "a variable of a section": (
        "(* *) Abort.", "(* *) Section s.", "(* *) Variable no : False.",
        "(* *) Theorem planted : False /\\ (0 : R) <= 0.", "split; [exact no | lra].",
    ),
    "a notation": (
        "(* *) Abort.", '(* *) Notation "\'False\'" := True.', "(* *) Theorem planted : False.", "exact I.",
    ),
    "a module begun anew": (
        "(* *) Abort.", "(* *) Reset part.", "(* *) Module part.", "(* *) Theorem planted : True.", "exact I.",
    ),
    "a command in braces of a goal": ("1: {Unset Guard Checking. }", "exact I."),
    "a comment that is not closed": ("(* ",),
    "an attribute": ("#[bypass_check(guard)] Fixpoint f (n : nat) : False := f n.",),
    "a command after an ellipsis": ("auto... Admitted.",),
    "a command after a space of another kind": ("auto.\u00a0Admitted.",),
}  # fmt: skip

#: What is no command, and yet no proof of 1 = 2.
TACTICS = (
    ("admit.",), ("give_up.",), ("shelve.",), ("abstract admit.",), ("exact_no_check (eq_refl 1).",),
    ("vm_cast_no_check (eq_refl 1).",), ("change_no_check (1 = 1).", "reflexivity."), ("fix planted 1.",),
    ("cofix f; exact f.",), ('idtac "Closed under the global context".', "admit."),
    ("pose proof planted as F; exact F.",), (),
)  # fmt: skip


@pytest.mark.parametrize("kind", CHEATS)
def test_a_script_cannot_hide_a_command(coq, kind):
    with pytest.raises(NotCertified, match="the script holds"):
        certify(coq, proof("False", *CHEATS[kind]), 30)


@pytest.mark.parametrize("lines", TACTICS, ids=" ".join)
def test_no_tactic_proves_what_is_false(coq, lines):
    with pytest.raises(NotCertified):
        certify(coq, proof("1 = 2", *lines), 30)


@pytest.mark.parametrize("kind", ["a loop", "a variable of a section"])
def test_what_is_taken_on_trust_is_seen_beside_axioms(coq, monkeypatch, kind):
    monkeypatch.setattr(certificates, "refuse_commands", lambda script: None)
    with pytest.raises(NotCertified, match=r"which axioms it uses|beyond axioms"):
        certify(coq, proof("False", *CHEATS[kind]), 30)


@pytest.mark.parametrize(
    "text",
    [
        "Closed under the global context\nAxioms:\nmore : False\n",
        "Axioms:\nmore : Closed under the global context\nloop is assumed to be guarded.\n",
        "Section Variables:\nno : False\nAxioms:\nclassic : forall P : Prop, P \\/ ~ P\n",
        "",
    ],
)
def test_an_answer_on_axioms_is_read_wholly_or_refused(text):
    with pytest.raises(NotCertified):
        axioms_in(text)


# -- Coq ---------------------------------------------------------------------------------------------------------

#: A process that answers each question for an unknown name, and says something of each other sentence.
ANSWERS = 'while read -r line; do case "$line" in Locate*) echo "No object of basename ${line#Locate }";; %s esac; done'


@pytest.mark.parametrize(
    "says",
    [
        "",
        "*Print*Assumptions*) echo 'Closed under the global context';;",
        "*Print*Assumptions*) echo Axioms:; echo classic;;",
        "*) echo 'Error: no.';;",
        "*Module*) echo 'Error: no.';; *Print*) echo 'Closed under the global context';;",
        "*Module*) echo 'Error: no.';; *Axiom*) name=${line#*Axiom }; echo Axioms:; echo \"$name\" | sed 's/a/b/g';;",
        "*Module*) exit 0;;",
    ],
)
def test_a_coq_that_computes_nothing_certifies_nothing(tmp_path, monkeypatch, says):
    fake(tmp_path, "coqc", 'case "$1" in --print-version) echo 8.16.1;; *) exit 0;; esac')
    fake(tmp_path, "coqtop", ANSWERS % says)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    with pytest.raises(CoqMissing, match="coqtop does not"), Session(tmp_path):
        pass


def test_a_run_with_it_is_refused(tmp_path, monkeypatch):
    fake(tmp_path, "coqc", 'case "$1" in --print-version) echo 8.16.1;; *) exit 0;; esac')
    fake(tmp_path, "coqtop", ANSWERS % "*Print*Assumptions*) echo 'Closed under the global context';;")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    with pytest.raises(CoqMissing, match="coqtop does not check what it is given"):
        certify_claims([claim_of("policy.softmax.shift")], processes=1)


def test_a_coq_that_judges_is_believed(coq):
    assert coq._judges()


# -- the ledger --------------------------------------------------------------------------------------------------


def test_what_rests_on_a_forbidden_axiom_is_not_certified_by_the_next_run(coq, monkeypatch):
    """What a part falls with is seen anew in each run, but not what Coq said of it."""
    monkeypatch.setattr(certificates, "AXIOMS", frozenset())
    with pytest.raises(NotCertified) as failure:
        certify(coq, proof("(0 : R) <= 0", "lra."), 30)
    kept = CertificateRecord("a.b", "", NOT_CERTIFIED, str(failure.value), 0.0, (), (), "8.16.1", "0", "0", "of today")
    fallen = replace(kept, part="fallen", reason=settled([record("1", "missing")])[0].reason)
    found = certify_module._kept([kept, fallen], "8.16.1", {"a.b": "of today"})
    assert [found["a.b", part].status for part in ("", "fallen")] == [NOT_CERTIFIED, CERTIFIED]


def record(part, *rests_on, status=CERTIFIED):
    return CertificateRecord("a.b", part, status, "", 0.0, (), tuple(f"a.b [{p}]" for p in rests_on), "", part, "")


@pytest.mark.parametrize(
    "records",
    [
        [record("1", "1")],
        [record("1", "2"), record("2", "1")],
        [record("1", "2"), record("2", "3"), record("3", "1"), record("4", "1")],
        [record("1", "missing")],
        [record("1", "2"), record("2", status=NOT_CERTIFIED)],
    ],
)
def test_nothing_is_certified_that_rests_on_itself(records):
    sound = [record("sound"), record("sound too", "sound")]
    assert [r.status for r in settled([*records, *sound])] == [NOT_CERTIFIED] * len(records) + [CERTIFIED] * 2


@pytest.mark.full("all but a sample of what Coq checks")
def test_a_record_of_the_same_text_rests_on_the_parts_of_today(coq_folder):
    claims = [claim_of("kl.k3.nonnegative")]
    records = certify_claims(claims, processes=1)
    assert any(r.rests_on for r in records)
    earlier = [replace(r, read="", rests_on=()) for r in records]
    assert certify_claims(claims, known=earlier, processes=1) == records
    unknown = [replace(r, rests_on=("no.claim",)) for r in records]
    assert {r.status for r in certify_claims(claims, known=unknown, processes=1)} == {NOT_CERTIFIED}
