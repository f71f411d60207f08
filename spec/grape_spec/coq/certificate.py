"""The texts that Coq is given for parts of claims, and what it takes for a part to be certified."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from grape_spec.coq.coqtop import HEADER, LIBRARY, Session, library_text
from grape_spec.coq.defined import value_script
from grape_spec.coq.printer import Unstated
from grape_spec.coq.rules import script_of
from grape_spec.coq.statement import Statement, definition_text, stated
from grape_spec.coq.terms import NoScript
from grape_spec.coq.work import Work, theorem_name
from grape_spec.language.claims import Claim, Part
from grape_spec.language.registry import claim_of

#: What a certificate may rest on: the axioms of Coq's real numbers, functional extensionality and classical logic.
AXIOMS = frozenset(
    {
        "ClassicalDedekindReals.sig_forall_dec",
        "ClassicalDedekindReals.sig_not_dec",
        "FunctionalExtensionality.functional_extensionality_dep",
        "Classical_Prop.classic",
    }
)

#: What is certified of a part: its statement, and that each of its terms has a value.
KINDS = ("statement", "values")


@dataclass(frozen=True)
class Certificate:
    """A theorem with its script, as Coq is given it.

    Arguments:
        name: of the theorem.
        theorem: its statement.
        script: its proof, in lines.
        definitions: the ids of the definitions that it speaks of.
        uses: the parts whose theorems the script uses, as (claim, part).
    """

    name: str
    theorem: str
    script: tuple[str, ...]
    definitions: tuple[str, ...]
    uses: tuple[tuple[str, str], ...] = ()

    def proof(self) -> str:
        """The theorem with its proof."""
        return "\n".join([self.theorem, "Proof.", *self.script, "Qed."])

    def text(self) -> str:
        """All that Coq is given: definitions, the theorems that are used, the theorem and its proof."""
        return f"{given(self)}\n{self.proof()}"

    @property
    def hash(self) -> str:
        """SHA-256 of the text and of the library."""
        return sha256("\n".join([HEADER, *map(library_text, LIBRARY), self.text()]).encode()).hexdigest()


def given(*entries: Certificate) -> str:
    """What comes before the theorems of certificates: definitions, and the theorems that are used, as axioms."""
    used = [theorem_of(*use) for use in dict.fromkeys(use for entry in entries for use in entry.uses)]
    ids = [id for statement, _ in used for id in statement.definitions]
    ids += [id for entry in entries for id in entry.definitions]
    assumed = [statement.theorem(name).replace("Theorem", "Axiom", 1) for statement, name in used]
    return "\n".join([*map(definition_text, dict.fromkeys(ids)), *assumed])


def part_named(claim: Claim, name: str) -> Part:
    return next(part for part in claim.parts if part.name == name)


@lru_cache(maxsize=2000)
def theorem_of(claim_id: str, part_name: str) -> tuple[Statement, str]:
    """The statement of a part in Coq, and the name of its theorem."""
    claim = claim_of(claim_id)
    part = part_named(claim, part_name)
    return stated(part.statement, part.assuming, part.by.at_sizes()), theorem_name(claim, part)


def certificate(claim: Claim, part: Part, kind: str = "statement") -> Certificate | None:
    """The certificate of a part before Coq has seen it; None where no term can be without a value.

    Raises: Unstated, or NoScript if no script can be written.
    """
    try:
        return _certificate(claim, part, kind)
    except (Unstated, NoScript):
        raise
    except Exception as failure:  # without a script nothing is certified
        raise NoScript(f"{type(failure).__name__}: {failure}") from failure


def _certificate(claim: Claim, part: Part, kind: str) -> Certificate | None:
    statement = stated(part.statement, part.assuming, part.by.at_sizes())
    name = theorem_name(claim, part)
    work = Work(claim, part, statement)
    if kind == "values":
        if not statement.needs:
            return None
        script = value_script(work)
        return Certificate(f"{name}_defined", statement.value_theorem(name), tuple(script), statement.definitions)
    script = script_of(work)
    return Certificate(name, statement.theorem(name), tuple(script), statement.definitions, tuple(work.uses))


class NotCertified(Exception):
    """Coq does not accept a certificate; the message says why in one line."""


def refuse_commands(script: tuple[str, ...]) -> None:
    """A script consists of tactics, whose names begin with a small letter; commands of Coq begin with a capital.

    Raises: NotCertified.
    """
    for line in "\n".join(script).splitlines():
        if "(*" in line:
            raise NotCertified("the script holds a comment, behind which a command could stand")
        found = re.search(r"(?:^|\.\s|[{}])[\s{}*+-]*([A-Z#]\w*)", line)
        if found is not None:
            raise NotCertified(f"the script holds the command {found[1]}")


def certify(session: Session, entry: Certificate, limit: float) -> tuple[str, ...]:
    """Have Coq check a certificate; gives the axioms that it rests on, without the theorems that it uses.

    Raises: NotCertified if Coq does not accept it, or if it rests on more than is allowed.
    """
    return certify_all(session, [entry], limit)


def certify_all(session: Session, entries: Sequence[Certificate], limit: float) -> tuple[str, ...]:
    """Have Coq check the certificates of a part, as :func:`certify` does.

    What they rest on is asked once for all of them: the answer takes Coq longer than most proofs.
    """
    for entry in entries:
        refuse_commands(entry.script)
    try:
        _accepted(session, f"Module part.\n{given(*entries)}", limit)
        for entry in entries:
            _accepted(session, entry.proof(), limit)
        names = ", ".join(entry.name for entry in entries)
        printed = _accepted(session, f"Definition all_of_part := ({names}).\nPrint Assumptions all_of_part.", 60)
    finally:
        session.ask("Abort All.\nReset part.", 60)
    found = axioms_in(printed)
    used = {theorem_of(*use)[1] for entry in entries for use in entry.uses}
    beyond = [axiom for axiom in found if axiom not in AXIOMS and axiom.removeprefix("part.") not in used]
    if beyond:
        raise NotCertified(f"axioms that are not allowed: {', '.join(beyond)}")
    return tuple(axiom for axiom in found if axiom in AXIOMS)


def _accepted(session: Session, text: str, limit: float) -> str:
    """What Coq prints for sentences that it accepts.

    Raises: NotCertified if it does not.
    """
    answer = session.ask(text, limit)
    if answer.text is None or answer.error:
        raise NotCertified(answer.error)
    return answer.text


def axioms_in(text: str) -> list[str]:
    """The names that Print Assumptions lists.

    Raises: NotCertified if the text is not what it prints.
    """
    first, *lines = text.strip().splitlines() or [""]
    if first == "Closed under the global context" and not lines:
        return []
    if first != "Axioms:":
        raise NotCertified("Coq did not say which axioms it uses")
    named = [(line, re.match(r"([\w.']+)(?:\s*:|\s*$)", line)) for line in lines if not line[:1].isspace()]
    for line, found in named:
        if found is None:  # such as: f is assumed to be guarded
            raise NotCertified(f"beyond axioms: {line}")
    return [found[1] for _, found in named if found is not None]
