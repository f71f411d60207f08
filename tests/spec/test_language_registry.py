"""What the registry refuses, and in which words."""

import pytest
import sympy as sp
from grape_spec.language import (
    Apply,
    Real,
    Size,
    claim,
    define,
    equals,
    family,
    greater,
    holds,
    index,
    sum_over,
    symbol,
    wrong,
)
from grape_spec.language.registry import (
    _CLAIMED,
    CLAIMS,
    DEFINITIONS,
    RETIRED,
    RegistryError,
    all_uses,
    check_registry,
    claim_of,
    definition,
    select,
)
from grape_spec.proof.derivatives import opened
from grape_spec.proof.prove import prove
from grape_spec.proof.rules import algebra, fact, rewrite, smt

from tests.tables import caches, restored


def plain_claim(words, id="t.plain", **kwargs):
    return claim(id, "text", holds(equals(words.x, words.x + 0 * words.y), by=algebra()), **kwargs)


@pytest.mark.parametrize(
    "id", ["", "ppo", "Ppo.clip", "ppo.", ".clip", "ppo..clip", "ppo clip.a", "1.2", "ppo-clip.a", "ppo.clip\n"]
)
def test_malformed_ids_are_refused(words, id):
    """An id is lower-case words joined by dots."""
    with pytest.raises(RegistryError, match="expected lower-case words joined by dots"):
        plain_claim(words, id)


def test_an_id_is_given_once(words):
    """Neither a claim nor a definition may take an id that is taken."""
    plain_claim(words)
    with pytest.raises(RegistryError, match=r"the id 't\.plain' is taken"):
        plain_claim(words)
    define("t.twice", "", (words.x,), words.x)
    with pytest.raises(RegistryError, match=r"the id 't\.twice' is taken"):
        define("t.twice", "", (words.x,), 2 * words.x)


def test_a_retired_id_is_never_used_again_and_says_why(words):
    """A tombstone keeps its id and its reason."""
    RETIRED["t.gone"] = "it was the same as t.other"
    with pytest.raises(RegistryError, match="was retired and is never used again"):
        plain_claim(words, "t.gone")
    with pytest.raises(KeyError, match=r"it was the same as t.other"):
        claim_of("t.gone")


def test_unknown_uses_are_refused(words):
    """A claim comes after all that it uses, whether it is named in the claim or by a rule."""
    with pytest.raises(RegistryError, match=r"uses 't\.missing', which is not a claim"):
        plain_claim(words, uses=["t.missing"])
    for by in (rewrite("t.missing"), smt(given=[fact("t.missing")])):
        with pytest.raises(RegistryError, match=r"uses 't\.missing'"):
            claim("t.by", "text", holds(equals(words.x, words.y), by=by))
    with pytest.raises(RegistryError, match=r"uses 't\.self'"):
        plain_claim(words, "t.self", uses=["t.self"])


def test_a_circle_of_uses_is_refused(words):
    """A circle cannot be declared; one that is forced into the table is found."""
    plain_claim(words, "t.first")
    plain_claim(words, "t.second", uses=["t.first"])
    first = CLAIMS["t.first"]
    _CLAIMED["t.first"] = type(first)("t.first", "", first.parts, ("t.second",), first.source, ())
    with pytest.raises(RegistryError, match=r"lead back to it: t\.first → t\.second → t\.first"):
        all_uses("t.first")


def test_undeclared_symbols_are_refused(words):
    """Statements, assumptions, wrong variants and definitions speak of declared symbols only."""
    stranger = sp.Symbol("stranger", real=True)
    with pytest.raises(RegistryError, match="stranger is not declared"):
        claim("t.a", "", holds(equals(words.x, stranger), by=algebra()))
    with pytest.raises(RegistryError, match="stranger is not declared"):
        claim("t.a", "", holds(equals(words.x, words.y), by=algebra(), assuming=[greater(stranger, 0)]))
    with pytest.raises(RegistryError, match="stranger is not declared"):
        plain_claim(words, wrong=[wrong("w", equals(words.x, stranger))])
    with pytest.raises(RegistryError, match="stranger is not declared"):
        define("t.d", "", (words.x,), words.x + stranger)


def test_the_same_name_with_other_assumptions_is_another_symbol(words):
    """A twin of a declared symbol is not declared."""
    twin = sp.Symbol("t_positive", real=True)
    with pytest.raises(RegistryError, match="not declared"):
        claim("t.a", "", holds(equals(words.positive, twin), by=algebra()))


def test_a_name_is_declared_once(words):
    """Two symbols of one name would be one to a reader."""
    with pytest.raises(ValueError, match="'t_x' is declared twice"):
        symbol("t_x", Real, "")
    with pytest.raises(ValueError, match="'t_x' is declared twice"):
        family("t_x", Real, words.rows, text="")


def test_a_declared_symbol_that_nothing_uses_is_refused():
    """The registry as it stands is whole; one idle symbol breaks it."""
    check_registry()
    symbol("t_idle", Real, "never used")
    with pytest.raises(RegistryError, match="'t_idle' \\(never used\\) is declared but nothing uses it"):
        check_registry()


def test_floats_are_refused(words):
    """0.5 in a statement, an assumption or a definition is refused; one half is not."""
    with pytest.raises(RegistryError, match="floating-point"):
        claim("t.a", "", holds(equals(words.x, 0.5 * words.y), by=algebra()))
    with pytest.raises(RegistryError, match="floating-point"):
        claim("t.a", "", holds(equals(words.x, words.y), by=algebra(), assuming=[greater(words.x, 0.5)]))
    claim("t.a", "", holds(equals(words.x, words.y / 2), by=algebra()))


def test_floats_are_refused_in_definitions(words):
    """A statement is no more exact than the definitions in it."""
    with pytest.raises(RegistryError, match="floating-point"):
        define("t.half", "", (words.x,), 0.5 * words.x)


def test_a_statement_that_python_evaluated_is_refused(words):
    """Eq(x, x) is True before anybody can prove it."""
    with pytest.raises(RegistryError, match="evaluated to True"):
        claim("t.a", "", holds(sp.Eq(words.x, words.x), by=algebra()))
    with pytest.raises(RegistryError, match="evaluated to False"):
        claim("t.a", "", holds(sp.Lt(words.positive, 0), by=algebra()))


def test_parts_are_needed_and_told_apart(words):
    """No parts, or two of one name, are refused."""
    with pytest.raises(RegistryError, match="at least one part"):
        claim("t.a", "")
    part = holds(equals(words.x, words.y), by=algebra())
    with pytest.raises(RegistryError, match="different names"):
        claim("t.a", "", part, part)


def test_a_definition_that_is_unknown_is_refused_in_a_statement(words):
    """A typo in an id is found when the claim is entered, and the nearest ids are named."""
    with pytest.raises(RegistryError, match=r"no definition 'ppo\.ratios'; the nearest: ppo\.ratio"):
        claim("t.a", "", holds(equals(Apply("ppo.ratios", words.x), words.x), by=algebra()))


def test_a_lookup_names_the_nearest_ids():
    """A user who mistypes is helped."""
    with pytest.raises(KeyError, match=r"no claim 'ppo\.clip\.gradiant'; the nearest: ppo\.clip\.gradient"):
        claim_of("ppo.clip.gradiant")
    with pytest.raises(KeyError, match=r"no definition 'ppo\.ratioo'"):
        definition("ppo.ratioo")


def test_selection_is_by_id_or_by_family():
    """A family is a prefix at a dot, not of letters."""
    assert [c.id for c in select(("ppo.ratio.gradient",))] == ["ppo.ratio.gradient"]
    assert {c.id for c in select(("ppo.clip",))} == {id for id in CLAIMS if id.startswith("ppo.clip.")}
    assert len(select(())) == len(CLAIMS)
    with pytest.raises(KeyError, match="no claim 'pp'"):
        select(("pp",))


def test_a_definition_needs_all_its_symbols_as_arguments_and_uses_them(words):
    """Nothing free may hide in a body, and no argument may be idle; sizes of arguments come along."""
    with pytest.raises(RegistryError, match="t_y occurs in the body but is not an argument"):
        define("t.d", "", (words.x,), words.x + words.y)
    with pytest.raises(RegistryError, match="the argument t_y does not occur in the body"):
        define("t.d", "", (words.x, words.y), words.x)
    define("t.d", "", (words.u,), sum_over(words.u[words.i], words.i) / words.rows)


def test_arguments_of_a_definition(words):
    """Leading arguments by position, others by name, the rest stay themselves; anything else is refused."""
    shape = define("t.shape", "", (words.x, words.y), words.x - 2 * words.y)
    assert shape().unfold() == words.x - 2 * words.y
    assert shape(3).unfold() == 3 - 2 * words.y
    assert shape(words.y, words.x).unfold() == words.y - 2 * words.x
    assert shape(t_y=words.x).unfold() == -words.x
    with pytest.raises(TypeError, match="got 3 arguments, expected at most 2"):
        shape(1, 2, 3)
    with pytest.raises(TypeError, match="got an argument 'w', expected one of t_x, t_y"):
        shape(w=1)
    with pytest.raises(TypeError, match="got the argument 't_x' twice"):
        shape(1, t_x=2)


def test_an_index_runs_over_a_whole_positive_size(words):
    """1..N−2 is empty or negative at N = 1, and 1..x means nothing for a real x: both are refused."""
    for size in (words.rows - 1, words.rows - 2, words.x, words.positive, sp.Integer(0), sp.Rational(1, 2)):
        with pytest.raises((RegistryError, ValueError, TypeError)):
            index(f"t_over_{size}", size, "")


def test_a_sum_runs_over_an_index(words):
    """A symbol without a range has no sum."""
    with pytest.raises(TypeError, match="expected one declared with index"):
        sum_over(words.x, words.x)


def test_the_version_of_a_claim_follows_its_meaning(words):
    """Two claims that differ in a number, an assumption or a domain differ in their hash; the words do not count."""

    def version(statement, assuming=(), text="text"):
        _CLAIMED.pop("t.version", None)
        return claim("t.version", text, holds(statement, by=smt(), assuming=assuming)).hash

    base = version(greater(words.x, 0))
    assert version(greater(words.x, 0), text="other words") == base
    others = [
        version(greater(words.x, 1)),
        version(greater(words.x, 0), [greater(words.y, 0)]),
        version(greater(words.y, 0)),
        version(greater(words.positive, 0)),
    ]
    assert len({base, *others}) == 5


def test_a_size_is_a_size(words):
    """Sizes carry the domain that sums rely on."""
    assert symbol("t_more", Size, "").is_positive


def test_sequences_may_be_lists_or_tuples(words):
    """What is written as a list is kept as a tuple."""
    entry = define("t.sum", "", [words.x, words.y], words.x + words.y)
    assert entry.of == (words.x, words.y)
    assert entry == DEFINITIONS["t.sum"]
    above = greater(words.x, 0)
    for bundle in (list, tuple):
        part = holds(equals(words.x, words.y), by=algebra(), assuming=bundle([above]))
        variant = wrong("w", equals(words.x, 2), assuming=bundle([above]))
        entered = claim(f"t.{bundle.__name__}", "", part, wrong=bundle([variant]))
        assert entered.parts[0].assuming == entered.wrong[0].assuming == (above,)
        assert entered.wrong == (variant,)


def test_an_id_that_is_free_again_means_only_its_new_definition(words):
    """Nothing that a test worked out outlives it, whichever function kept it."""
    opened_as = []
    for body in (words.x, 2 * words.x):
        with restored():
            again = define("t.again", "", (words.x,), body)
            assert prove(holds(equals(again(words.x), body), by=algebra())).status == "proved"
            opened_as.append(opened(again(words.x)))
    assert opened_as == [words.x, 2 * words.x]
    kept = [cached.__qualname__ for cached in caches() if cached.cache_info().currsize]
    assert not kept
