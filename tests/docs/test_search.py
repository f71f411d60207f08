"""The search of the built site: what readers type leads to the right page, and its index is small."""

import json

import pytest
from grape_spec.language.registry import CLAIMS, DEFINITIONS
from py_mini_racer import MiniRacer

from grape_verified import __version__
from grape_verified.conformance.subjects import SUBJECTS
from grape_verified.docs import search
from grape_verified.docs.markdown import address_of
from grape_verified.docs.reference import names_of
from grape_verified.docs.synonyms import ALSO_CALLED
from tests.docs.test_site import published  # noqa: F401 - a fixture

#: The number of results that are seen without scrolling.
FIRST = 5

#: What readers type, and a page that must be among the first.
QUERIES = {
    "pinsker": "claims/trpo.pinsker/",
    "kl_optimum": "claims/dpo.kl_optimum/",
    "sign_form": "claims/ppo.clip.sign_form/",
    "zero_sum": "claims/grpo.advantage.zero_sum/",
    "clipping": "chapters/ppo/",
    "trust region": "chapters/trpo/",
    "trust region step": "claims/trpo.step/",
    "advantage normalisation": "claims/advantage.whiten/",
    "advantage normalization": "claims/advantage.whiten/",
    "importance sampling": "claims/trpo.importance.identity/",
    "dual clip": "claims/ppo.dual_clip.bound/",
    "conservative DPO": "claims/dpo.label_smoothing/",
    "baseline": "claims/reinforce.baseline.unbiased/",
    "best of n": "claims/rejection.best_of_n.kl_bound/",
    "gradient accumulation": "claims/sft.accumulation/",
    "generalized advantage estimation": "claims/advantage.gae.recursion/",
    "length bias": "claims/grpo.length_weight/",
    "behavior cloning": "chapters/sft/",
    "natural gradient": "claims/trpo.step/",
    "log-derivative trick": "claims/reinforce.policy_gradient/",
    "Dr. GRPO": "claims/grpo.dr_grpo/",
    "loss is zero": "symptoms/#loss-is-zero",
    "KL is negative": "symptoms/#kl-is-negative",
    "KL spikes": "symptoms/#kl-spikes",
    "clip fraction": "symptoms/#clip-fraction",
    "log 2": "symptoms/#dpo-start",
    "loss starts at 0.693": "claims/dpo.at_reference/",
    "distillation loss 0": "symptoms/#distillation",
    "2309.16240": "definitions/f_dpo/#f_dpo.alpha",
    "dpo_loss": "reference/dpo/#grape_verified.dpo_loss",
}

#: The code of the theme, which runs in a worker of the browser, with what it needs of one.
WORKER = """
var self = this, listeners = [], answers = [], console = {warn() {}, log() {}};
var addEventListener = (name, listener) => listeners.push(listener), postMessage = message => answers.push(message);
function ask(type, data) { answers.length = 0; listeners[0]({data: {type, data}}); }
"""


class Search:
    """The search of a built site, by the code that the browser runs."""

    def __init__(self, site):
        self.engine = MiniRacer()
        (worker,) = (site / "assets" / "javascripts" / "workers").glob("search.*.min.js")
        index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
        self.engine.eval(WORKER + worker.read_text(encoding="utf-8"))
        self.engine.eval(f"ask(0, {{...{index}, options: {{suggest: true}}}})")

    def __call__(self, query):
        """The pages that are found, best first; for each, the places on it, best first."""
        self.engine.eval(f"ask(2, {json.dumps(query)})")
        (answer,) = json.loads(self.engine.eval("JSON.stringify(answers)"))
        return [[place["location"] for place in places] for places in answer["data"]["items"]]


@pytest.fixture(scope="module")
def index(published):  # noqa: F811
    return published / __version__ / "search" / "search_index.json"


@pytest.fixture(scope="module")
def find(published):  # noqa: F811
    found = Search(published / __version__)
    yield found
    found.engine.close()


#: Needs the whole site.
full = pytest.mark.full("pages in a browser")


def rank(find, query, place):
    """The position among the pages that are found of the one with a place."""
    return next((position for position, places in enumerate(find(query)) if place in places), 1000)


@full
def test_what_many_pages_speak_of_is_among_the_results_that_the_theme_shows(find):
    """Rewards are normalised in GRAPE, too, and every id with the word comes early."""
    assert rank(find, "reward normalization", "claims/grpo.advantage.affine/") < 10


@full
@pytest.mark.parametrize("query", QUERIES)
def test_what_readers_type_is_found(find, query):
    assert rank(find, query, QUERIES[query]) < FIRST, find(query)[:5]


@full
def test_a_number_does_not_break_the_search_off(find):
    assert [number for number in map(str, (*range(10), 10, 100, 1000)) if not find(number)] == []


@full
def test_every_id_leads_to_what_bears_it(find):
    assert not {id: find(id)[:3] for id in (*CLAIMS, *DEFINITIONS) if rank(find, id, address_of(id)) >= FIRST}


@full
def test_every_id_is_found_by_its_last_part(find):
    assert not [id for id in (*CLAIMS, *DEFINITIONS) if rank(find, id.rpartition(".")[2], address_of(id)) == 1000]


@full
def test_every_function_is_found_by_its_name(find):
    places = {name: f"reference/{s}/#grape_verified.{name}" for s in SUBJECTS for name in names_of(s)}
    assert not [name for name in places if rank(find, name, places[name]) >= FIRST]


@full
def test_every_other_name_leads_to_what_it_names(find):
    pairs = [(key, name) for key, names in ALSO_CALLED.items() for name in names]
    assert not [(key, name) for key, name in pairs if rank(find, name, place(key)) >= 2 * FIRST]


def place(key):
    return f"chapters/{SUBJECTS[key].chapter}/" if key in SUBJECTS else address_of(key)


@full
def test_the_index_is_small_and_has_no_code(index):
    assert index.stat().st_size < 3_000 * (len(CLAIMS) + len(DEFINITIONS))
    text = index.read_text(encoding="utf-8")
    for absent in ("<pre>", "Theorem", "@misc", "def ppo_loss"):
        assert absent not in text


@full
def test_sections_that_are_left_out_exist(published):  # noqa: F811
    """Else a section that was renamed would be in the index again."""
    page = (published / __version__ / "claims" / "ppo.clip.gradient" / "index.html").read_text(encoding="utf-8")
    assert all(f'id="{section}"' in page for section in search.UNSEARCHED)
    assert all((published / __version__ / page / "index.html").is_file() for page in search.LISTS)


def index_of(*docs):
    return {"config": {"fields": {"title": {"boost": 1.0}}}, "docs": list(docs)}


def entry(location, text="", title="title"):
    return {"location": location, "title": title, "text": text}


def test_code_formulas_and_repeated_sections_are_left_out():
    given = index_of(
        entry("a/", r"<p>one</p> <pre><code>two</code></pre> \[x^2\] <p>\(y\)</p>"),
        entry("claims/ppo.ratio.gradient/", "<p>three</p>"),
        entry("claims/ppo.ratio.gradient/#in-coq", "<p>four</p>"),
        entry("claims/", "<p>five</p>", "Claims"),
        entry("claims/#ppo", "<p>six</p>"),
    )
    found = search.refined(given, {})["docs"]
    assert [(entry["location"], entry["text"]) for entry in found] == [
        ("a/", r"<p>one</p> <p>\(y\)</p>"),
        ("claims/ppo.ratio.gradient/", "<p>three</p>"),
        ("claims/", ""),
    ]


def test_names_and_american_spellings_have_fields_of_their_own():
    given = index_of(entry("a/", "<p>centred, normalised behaviour</p>", "Generalised"), entry("b/", "<p>plain</p>"))
    found = search.refined(given, {"a/": ("whitening", "regularisation")})
    first, second = found["docs"]
    assert first["names"] == "whitening; regularisation; Generalized; regularization"
    assert first["spellings"] == "behavior centered normalized"
    assert not {"names", "spellings"} & set(second)
    assert {"title", "names", "spellings"} == set(found["config"]["fields"])


def test_the_shorter_of_two_ids_and_a_symptom_count_more_and_a_definition_as_a_page():
    places = (
        "claims/trpo.step/",
        "claims/trpo.step.gain/",
        "definitions/trpo/#trpo.kl",
        "chapters/ppo/",
        "symptoms/#a",
        "trust/",
    )
    titles = ("<code>trpo.step</code>", "<code>trpo.step.gain</code>", "<code>trpo.kl</code>", "PPO", "A loss", "Trust")
    found = search.refined(index_of(*(entry(p, title=t) for p, t in zip(places, titles, strict=True))), {})["docs"]
    assert [entry.get("boost") for entry in found] == [1.5, 1.333, 3.75, 2.8, 5.0, None]


def test_other_names_are_of_what_exists_and_say_something_new():
    assert set(ALSO_CALLED) <= {*CLAIMS, *DEFINITIONS, *SUBJECTS}
    for key, names in ALSO_CALLED.items():
        assert len(set(names)) == len(names) > 0, key
        title = SUBJECTS[key].title if key in SUBJECTS else key
        assert title.casefold() not in [name.casefold() for name in names]
