"""A built site, served on this machine, and a browser that can reach nothing else."""

import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from filelock import FileLock
from grape_spec.proof.examine import examine
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from grape_verified import __version__
from grape_verified.conformance.ledger import summarise, write

ROOT = Path(__file__).parents[2]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

#: What is in the ledger that the site is built from; all other claims must be shown as "not run".
RECORDED = ("ppo.ratio.gradient", "ppo.clip.gradient")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextmanager
def served(folder):
    """The address of a folder that is served during the context."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def build(folder, address):
    """Build the site as it is published: a folder for the version, and the list of versions beside it."""
    checkout = folder / "checkout"
    generated = shutil.ignore_patterns(".git", ".venv", "claims", "definitions", "reference", "graph.md")
    shutil.copytree(ROOT / "docs", checkout / "docs", ignore=generated)
    shutil.copytree(ROOT / "grape_verified", checkout / "grape_verified", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", checkout)
    write(summarise([examine(id) for id in RECORDED], [], 1.0), checkout / "ledger.json")
    published = folder / "published"
    published.mkdir()
    command = [sys.executable, "-m", "grape_verified", "docs", "build", "--ledger", "ledger.json"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "spec"), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [*command, "--site-dir", str(published / __version__)],
        cwd=checkout,
        env={**os.environ, "SITE_URL": f"{address}{__version__}/", "PYTHONPATH": paths},
        check=True,
        capture_output=True,
    )
    versions = [{"version": __version__, "title": __version__, "aliases": []}]
    (published / "versions.json").write_text(json.dumps(versions), encoding="utf-8")


def built_once(shared):
    """The folder of the site, built by the first process that asks."""
    with FileLock(shared / "site.lock"):
        if not (shared / "published").exists():
            build(shared, "http://site.invalid/")
    return shared / "published"


@contextmanager
def browser(folder, *, width=1300, height=900, dark=False):
    """A headless Chromium for which no name resolves and no host but this one exists."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "hide-scrollbars", f"window-size={width},{height}",
        f"user-data-dir={folder}", "host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.get("about:blank")
        troubles(driver, "")  # of the page that the browser shows when it starts
        yield driver
    finally:
        driver.quit()


def troubles(driver, origin):
    """Problems since the last call: requests that failed or left this machine, and errors on the console."""
    found = [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        parameters = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith((origin, "data:", "blob:", "about:", "chrome:")):
                found.append(f"a request left: {url}")
        elif message["method"] == "Network.loadingFailed" and not parameters.get("canceled"):
            found.append(f"a request failed: {parameters['errorText']}")
        elif message["method"] == "Network.responseReceived" and parameters["response"]["status"] >= 400:
            found.append(f"{parameters['response']['status']}: {parameters['response']['url']}")
    return found
