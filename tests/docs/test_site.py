"""The built site in a real browser with the network closed, and one path through it for each kind of reader."""

import gzip
import json
import re
import subprocess
import sys
import time
import zipfile
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
from grape_spec.language.registry import CLAIMS
from selenium.webdriver.common.keys import Keys

from grape_verified import __version__
from grape_verified.docs.copies import copies
from grape_verified.docs.figures import CHAPTERS
from tests.docs.browser import CHROMIUM, DRIVER, RECORDED, browser, built_once, served, troubles

pytestmark = [
    pytest.mark.full("pages in a browser"),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and its driver are not installed"),
]

SECONDS = 15

#: Problems of the current page: mathematics that is not rendered or is red, and overflowing elements.
FAULTS = """
const found = []
for (const element of document.querySelectorAll(".arithmatex"))
  if (!element.querySelector(".katex-html")) found.push("not rendered: " + element.textContent)
if (window.innerWidth > 1000)
  for (const formula of document.querySelectorAll(".katex-display")) {
    const column = formula.closest("div.arithmatex") || formula.parentElement
    if (Math.max(formula.scrollWidth, column.scrollWidth) > column.clientWidth + 1)
      found.push("wider than its column: " + formula.querySelector("annotation").textContent.slice(0, 80))
  }
for (const formula of document.querySelectorAll("div.arithmatex"))
  if (formula.scrollHeight > formula.clientHeight && getComputedStyle(formula).overflowY !== "hidden")
    found.push("scrolls up and down: " + formula.querySelector("annotation").textContent.slice(0, 80))
for (const equation of document.querySelectorAll(".equation")) {
  const [formula, number] = [equation.querySelector("div"), equation.querySelector("a")]
  if (formula.getBoundingClientRect().right > number.getBoundingClientRect().left)
    found.push("its formula lies under the number " + equation.id)
}
for (const id of document.querySelectorAll("article :is(h1, h2) > code"))
  if (id.textContent.includes(".") && id.getClientRects().length > 1) found.push("broken: " + id.textContent)
for (const element of document.querySelectorAll(".katex-error")) found.push("red: " + element.textContent)
if (document.documentElement.scrollWidth > window.innerWidth) {
  const outside = element => element.getBoundingClientRect().right > window.innerWidth
  const first = [...document.querySelectorAll("article *")].filter(outside).slice(0, 3)
  found.push("wider than the window: " + first.map(element => element.outerHTML.slice(0, 80)).join(" "))
}
return found
"""


#: What a reader cannot see, unless it is folded.
UNSEEN = """
const seen = element => element.closest("details:not([open])") || element.getClientRects().length
return [...document.querySelectorAll("article :is(h1, h2, p, td, pre, .katex-html, figure svg)")]
  .filter(element => !seen(element)).map(element => element.outerHTML.slice(0, 80))
"""

#: Whether each formula scrolls, and whether the keyboard reaches it.
SCROLLING = """
return [...document.querySelectorAll("div.arithmatex")].map(formula =>
  [formula.scrollWidth > formula.clientWidth, formula.tabIndex === 0 && formula.ariaLabel !== null])
"""

#: A package that brings the script of axe-core 4.12, which looks for what some readers cannot see or reach.
AXE = "axe-playwright-python==0.1.8"

#: What axe finds on the current page that is serious or critical.
SERIOUS = """
const done = arguments[arguments.length - 1]
const told = violation => [violation.id, ...violation.nodes.slice(0, 3).map(node => node.html.slice(0, 80))]
axe.run({resultTypes: ["violations"]}).then(result => done(
  result.violations.filter(({impact}) => ["serious", "critical"].includes(impact)).map(told)))
"""

PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}

#: A page of each kind.
KINDS = tuple(
    f"{__version__}/{path}"
    for path in (
        "",
        "chapters/ppo/",
        f"claims/{RECORDED[0]}/",
        "claims/",
        "definitions/ppo/",
        "reference/ppo/",
        "graph/",
    )
)


@pytest.fixture(scope="session")
def published(tmp_path_factory, worker_id):
    own = tmp_path_factory.getbasetemp()
    return built_once(own if worker_id == "master" else own.parent)


@pytest.fixture(scope="session")
def pages(published):
    """The paths of all pages, from the root of the site."""
    found = sorted(path.relative_to(published) for path in published.rglob("index.html"))
    return [str(path.parent) + "/" for path in found]


@pytest.fixture(scope="session")
def site(published):
    with served(published) as address:
        yield address


@pytest.fixture
def driver(tmp_path):
    with browser(tmp_path / "profile") as found:
        yield found


class Anchors(HTMLParser):
    """The targets of the links of a page, and its own ids."""

    def __init__(self):
        super().__init__()
        self.links, self.ids = [], set()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}


def test_every_link_and_anchor_leads_somewhere(published, pages):
    parsed = {}
    for page in pages:
        parsed[page] = Anchors()
        parsed[page].feed((published / page / "index.html").read_text(encoding="utf-8"))
    wrong, looked_at = [], 0
    for page, anchors in parsed.items():
        for href in anchors.links:
            target, fragment = urldefrag(urljoin(f"http://here/{page}", href))
            if urlsplit(target).netloc != "here":
                continue
            looked_at += 1
            path = unquote(urlsplit(target).path).lstrip("/")
            there = published / path / ("index.html" if path.endswith("/") else "")
            known = parsed[path].ids if path in parsed else {""}
            if not there.is_file() or unquote(fragment) not in known | {""}:
                wrong.append((page, href))
    assert not wrong
    assert looked_at > 10 * len(CLAIMS)


class Head(HTMLParser):
    """What a page says in its head: the tags by name or property, its canonical address, and JSON-LD."""

    def __init__(self):
        super().__init__()
        self.tags, self.canonical, self.linked, self.inside = {}, None, "", False

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "meta" and values.get("content"):
            self.tags[values.get("name") or values.get("property")] = values["content"]
        elif tag == "link" and values.get("rel") == "canonical":
            self.canonical = values["href"]
        self.inside = tag == "script" and values.get("type") == "application/ld+json"

    def handle_data(self, data):
        self.linked += data if self.inside else ""


def head(published, path):
    parser = Head()
    parser.feed((published / __version__ / path / "index.html").read_text(encoding="utf-8"))
    return parser


def test_a_page_can_be_cited_and_shared(published):
    claim = CLAIMS["ppo.clip.gradient"]
    found = head(published, f"claims/{claim.id}")
    address = f"http://site.invalid/{__version__}/claims/{claim.id}/"
    assert found.canonical == found.tags["og:url"] == found.tags["citation_public_url"] == address
    assert found.tags["citation_title"] == claim.text.rstrip(".")
    assert found.tags["og:description"] == claim.text
    assert json.loads(found.linked)["identifier"] == claim.id
    home = head(published, "")
    assert home.tags["og:type"] == "website"
    assert "citation_title" not in home.tags
    card = home.tags["og:image"].removeprefix("http://site.invalid/")
    assert (published / card).read_bytes().startswith(b"\x89PNG")


def sent(file):
    """The bytes of a file as a server sends it: fonts are compressed already."""
    data = file.read_bytes()
    return len(data) if file.suffix == ".woff2" else len(gzip.compress(data))


def test_a_claim_page_is_light(published):
    """By itself as it is, and compressed with all that it can load but the index, which waits for the search."""
    root = published / __version__
    assets = [*root.glob("assets/*.*"), *root.glob("assets/javascripts/bundle.*.js"), *root.glob("assets/**/*.css")]
    shared = sum(map(sent, {file for file in assets if file.suffix in (".css", ".js")}))
    shared += sum(map(sent, root.glob("assets/katex/fonts/*.woff2")))
    pages = {page.parent.name: page for page in root.glob("claims/*/index.html")}
    assert len(pages) >= len(CLAIMS)
    weights = {name: max(page.stat().st_size, shared + sent(page)) for name, page in pages.items()}
    assert {name: weight for name, weight in weights.items() if weight > 700_000} == {}


def test_as_many_pages_of_claims_as_claims(published):
    folders = [path.parent.name for path in (published / __version__ / "claims").glob("*/index.html")]
    assert sorted(folders) == sorted(CLAIMS)


def faults(driver, site, paths):
    """The problems of each of these pages."""
    found = {}
    for path in paths:
        driver.get(site + path)
        wrong = [*troubles(driver, site), *driver.execute_script(FAULTS)]
        if wrong:
            found[path] = wrong
    return found


@pytest.mark.parametrize("share", range(4))
def test_every_page_opens_without_the_network(site, pages, driver, share):
    assert len(pages) > len(CLAIMS)
    assert not faults(driver, site, pages[share::4])


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_overflows_on_a_phone(site, pages, tmp_path, dark):
    """Every page, with one for all claims; in dark mode one page of each kind."""
    chosen = set(KINDS) if dark else {page for page in pages if "/claims/" not in page} | {*KINDS}
    with browser(tmp_path / "profile", dark=dark) as driver:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
        assert not faults(driver, site, sorted(chosen))


def test_everything_is_there_without_javascript(site, driver):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    wrong = faults(driver, site, KINDS)
    for path in KINDS:
        driver.get(site + path)
        assert driver.execute_script("return document.documentElement.className") == "no-js"
        wrong[path] = [*wrong.get(path, ()), *driver.execute_script(UNSEEN)]
    assert not any(wrong.values()), wrong


def test_the_keyboard_reaches_the_formulas_that_scroll_and_no_others(site, driver):
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    seen = set()
    for path in KINDS:
        driver.get(site + path)
        until(
            driver, f"return ({SCROLLING.strip().removeprefix('return ')}).every(([wide, reached]) => wide === reached)"
        )
        seen |= {tuple(pair) for pair in driver.execute_script(SCROLLING)}
    assert seen == {(True, True), (False, False)}


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The script of axe-core, from a package whose browser is not needed: it is downloaded, not installed."""
    folder = tmp_path_factory.mktemp("axe")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), AXE]
    got = subprocess.run(command, capture_output=True, check=False, timeout=120)
    if got.returncode:
        pytest.skip(f"{AXE} cannot be downloaded: {got.stderr.decode().strip()[:200]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return wheel.read("axe_playwright_python/axe.min.js").decode()


def test_axe_finds_what_is_planted(driver, axe):
    driver.get("data:text/html,<title>A page</title><img src='data:,'><button></button>")
    driver.execute_script(axe)
    assert {"button-name", "image-alt"} <= {name for name, *_ in driver.execute_async_script(SERIOUS)}


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(site, axe, tmp_path, dark):
    found = {}
    with browser(tmp_path / "profile", dark=dark) as driver:
        driver.set_script_timeout(120)
        for path in KINDS:
            driver.get(site + path)
            until(driver, "return document.querySelector('.md-search').ariaLabel")
            driver.execute_script(axe)
            found[path] = driver.execute_async_script(SERIOUS)
    assert not any(found.values()), found


def until(driver, script, *arguments):
    """What a script returns, once that is something."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found = driver.execute_script(script, *arguments)
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing within {SECONDS} s: {script}")


def text(driver):
    return driver.execute_script("return document.body.innerText")


def follow(driver, words):
    """Click the link in the text of the page that has these words."""
    script = """
    const links = [...document.querySelectorAll("article a, nav.md-nav a")]
    return links.find(link => link.textContent.trim() === arguments[0] && link.href)
    """
    target = until(driver, script, words).get_attribute("href")
    driver.get(target)
    return target


def searched(driver, words):
    """The links that the search gives."""
    script = """
    const field = document.querySelector("input[data-md-component=search-query]")
    if (!document.querySelector("[data-md-component=search-result]")) return false
    field.focus()
    if (field.value !== arguments[0]) {
      field.value = arguments[0]
      field.dispatchEvent(new KeyboardEvent("keyup", {bubbles: true}))
      field.dispatchEvent(new Event("input", {bubbles: true}))
    }
    const links = [...document.querySelectorAll("a.md-search-result__link")].map(link => link.href)
    return links.length ? links : false
    """
    return until(driver, script, words)


@pytest.mark.parametrize(
    ("words", "page"),
    [("clip", "chapters/ppo/"), ("Bradley", "chapters/dpo/"), ("pinsker", "claims/trpo.pinsker/")],
)
def test_search_finds(site, driver, words, page):
    driver.get(f"{site}{__version__}/")
    assert any(f"/{page}" in link for link in searched(driver, words))
    assert not troubles(driver, site)


def test_the_search_index_is_loaded_when_the_search_is_used(site, driver):
    loaded = "return performance.getEntriesByType('resource').some(entry => entry.name.includes('search_index'))"
    driver.get(f"{site}{__version__}/claims/trpo.pinsker/")
    until(driver, "return document.readyState === 'complete'")
    time.sleep(1)
    assert not driver.execute_script(loaded)
    driver.find_element("css selector", "input[data-md-component=search-query]").click()
    until(driver, loaded)
    assert searched(driver, "importance sampling")
    assert not troubles(driver, site)


def test_a_reader_comes_to_understand_the_clip_of_ppo(site, driver):
    driver.get(f"{site}{__version__}/")
    follow(driver, "PPO")
    assert driver.find_elements("css selector", "figure#figure-ppo_clip svg")
    shown = text(driver)
    assert "ppo.clipped_surrogate" in shown
    assert "Where this goes wrong in practice" in shown
    box = until(
        driver,
        "return [...document.querySelectorAll('.box.claim')].find(b => b.innerText.includes('ppo.clip.gradient'))",
    )
    assert "fully proved" in box.text or "proved" in box.text
    assert box.find_elements("css selector", ".katex-html")


def test_a_reader_checks_a_derivation_to_its_assumptions(site, driver):
    driver.get(f"{site}{__version__}/claims/")
    follow(driver, "ppo.clip.gradient")
    shown = text(driver)
    for heading in ("Statement", "In words", "Symbols", "Assumptions", "Evidence", "False variants", "Source"):
        assert heading in shown
    assert "fully proved" in shown
    assert "SMT, exact difference quotient" not in shown
    driver.find_element("xpath", "//summary[text()='Record of the checker']").click()
    assert "SMT, exact difference quotient" in text(driver)
    follow(driver, "ppo.ratio.gradient")
    assert "The ratio is its own derivative" in text(driver)
    follow(driver, "ppo.ratio")
    assert "Probability ratio of a token" in text(driver)
    driver.get(f"{site}{__version__}/claims/ppo.clip.gradient/")
    follow(driver, "what is assumed")
    assert "Assumed" in text(driver)


@pytest.mark.parametrize(
    ("links", "shown"),
    [
        (["GRPO", "grpo.dapo"], "a separate upper clip edge"),
        (["all claims", "dpo.gradient", "what is assumed"], "Assumed"),
        (["all claims", "dpo.gradient", "Cite"], "@misc{grape_verified:dpo.gradient,"),
        (["KL divergence"], "Who does what"),
        (["your loss"], "grape-verified check"),
        (["an example"], "grpo_loss(logps"),
    ],
)
def test_a_reader_comes_from_home_in_three_actions(site, driver, links, shown):
    driver.get(f"{site}{__version__}/")
    assert len(links) <= 3
    for words in links:
        follow(driver, words)
    assert shown in text(driver)


def test_a_reader_copies_what_the_keyboard_chooses(site, driver):
    driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    driver.get(f"{site}{__version__}/claims/ppo.clip.gradient/")
    for copy in copies(CLAIMS["ppo.clip.gradient"]):
        button = driver.find_element("xpath", f"//button[text()='Copy as {copy.name}']")
        button.send_keys(Keys.ENTER)
        until(driver, "return arguments[0].textContent === 'copied'", button)
        script = "navigator.clipboard.readText().then(arguments[arguments.length - 1])"
        assert driver.execute_async_script(script).strip() == copy.text
        until(driver, f"return arguments[0].textContent === 'Copy as {copy.name}'", button)


def test_a_reader_cites_an_equation_whose_address_exists(published, site, driver):
    driver.get(f"{site}{__version__}/claims/ppo.clip.gradient/")
    entry = driver.find_element("css selector", "#cite-this ~ .highlight code").text
    assert entry.startswith("@misc{grape_verified:ppo.clip.gradient,")
    address = next(line.split("{")[1].split("}")[0] for line in entry.splitlines() if line.strip().startswith("url"))
    driver.get(address.replace("http://site.invalid/", site))
    assert "ppo.clip.gradient" in driver.title
    data = json.loads((published / __version__ / "equations.json").read_text(encoding="utf-8"))
    listed = {found["id"]: found for found in data["claims"]}
    assert listed["ppo.clip.gradient"]["address"] == address
    assert listed["ppo.clip.gradient"]["hash"] in entry.replace("\n", " ")
    assert listed["ppo.clip.gradient"]["status"] == "fully proved"


#: The figures with sliders, by the chapter that shows them.
SLIDING = {
    chapter.__name__.rpartition(".")[2]: sliding
    for chapter in CHAPTERS
    if (sliding := [figure for figure in chapter.FIGURES if figure.sliders])
}

#: Every line of a figure as it is drawn: the paths of lines and the places of marks.
DRAWN = """
const parts = document.querySelectorAll(`#figure-${arguments[0]} svg [id*="-line-"] > :is(path, g)`)
return [...parts].map(part => part.getAttribute("d") ?? part.innerHTML)
"""


@pytest.mark.parametrize("chapter", SLIDING)
def test_a_slider_moved_by_keyboard_draws_the_figure_again(site, driver, chapter):
    driver.get(f"{site}{__version__}/chapters/{chapter}/")
    for figure in SLIDING[chapter]:
        for slider in figure.sliders:
            id = f"{figure.name}-slider-{slider.name}"
            control = driver.find_element("id", id)
            output = driver.find_element("css selector", f"output[for={id}]")
            assert control.accessible_name == f"{slider.symbol}, {slider.meaning}"
            seen = [driver.execute_script(DRAWN, figure.name)]
            for key, value in ((Keys.ARROW_RIGHT, slider.start + slider.step), (Keys.END, slider.high)):
                control.send_keys(key)
                assert float(output.text) == pytest.approx(value)
                seen.append(driver.execute_script(DRAWN, figure.name))
            assert len({tuple(lines) for lines in seen}) == 3, id
            assert all("NaN" not in line and "undefined" not in line for lines in seen for line in lines)
    assert not troubles(driver, site)


#: For each line of a figure the places of its marks and the ends of its path: as it was printed, and on the page.
PLACES = """
const places = root => [...root.querySelectorAll('svg [id*="-line-"]')].map(group => [
  ...[...group.querySelectorAll("use")].flatMap(mark => ["x", "y"].map(name => Number(mark.getAttribute(name)))),
  ...(group.querySelector(":scope > path")?.getAttribute("d").match(/-?[\\d.]+/g).map(Number) ?? []).filter(
    (_, place, all) => place < 2 || place >= all.length - 2,
  ),
])
const printed = new DOMParser().parseFromString(arguments[0], "text/html")
return [printed.querySelector("figure"), document.getElementById(printed.querySelector("figure").id)].map(places)
"""


@pytest.mark.parametrize("chapter", SLIDING)
def test_before_a_slider_moves_the_script_draws_what_was_printed(published, site, driver, chapter):
    driver.get(f"{site}{__version__}/chapters/{chapter}/")
    text = (published / __version__ / "chapters" / chapter / "index.html").read_text(encoding="utf-8")
    for figure in SLIDING[chapter]:
        static = re.search(rf'<figure id="figure-{figure.name}".*?</figure>', text, re.DOTALL)[0]
        height = float(re.search(r'viewBox="0 0 \S+ (\S+)"', static)[1])
        printed, drawn = driver.execute_script(PLACES, static)
        assert len(printed) == len(drawn) > 0
        for before, after in zip(printed, drawn, strict=True):
            assert len(before) == len(after)
            points = zip(before[::2], before[1::2], after[::2], after[1::2], strict=True)
            for x, y, *again in points:
                if 0 <= y <= height:  # what leaves the picture is cut off in print
                    assert again == pytest.approx([x, y], abs=0.01), figure.name


def test_without_a_script_the_figure_stands_and_the_sliders_do_not_show(site, driver):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    driver.get(f"{site}{__version__}/chapters/ppo/")
    figure = driver.find_element("id", "figure-ppo_clip")
    assert figure.find_element("tag name", "svg").size["height"] > 100
    assert not figure.find_element("tag name", "fieldset").is_displayed()
    assert "Drawn for ε = 0.2, ε′ = 0.2." in figure.text


def test_on_paper_a_figure_shows_the_numbers_of_its_sliders_on_white(site, tmp_path):
    with browser(tmp_path / "profile", dark=True) as driver:
        driver.get(f"{site}{__version__}/chapters/ppo/")
        driver.find_element("id", "ppo_clip-slider-high").send_keys(Keys.END)
        colour = "return getComputedStyle(document.body).getPropertyValue('--figure-1').trim()"
        dark = driver.execute_script(colour)
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        figure = driver.find_element("id", "figure-ppo_clip")
        assert [element.is_displayed() for element in figure.find_elements("tag name", "input")] == [False, False]
        assert [element.text for element in figure.find_elements("tag name", "output")] == ["0.2", "0.95"]
        assert driver.execute_script("return getComputedStyle(arguments[0]).breakInside", figure) == "avoid"
        assert driver.execute_script(colour) != dark
