"""Two tiers of tests, and shared fixtures.

The default tier leaves out the tests marked `full` and tries the kernels on fewer inputs; `pytest --full` runs all.
"""

import os

import grape_spec  # noqa: F401 - the registry is full before any test adds to it
import pytest
import torch
from hypothesis import settings

from tests.tables import restored

torch.set_num_threads(1)  # the tensors are small, and tests that run side by side share the cores

settings.register_profile("the same examples every time", derandomize=True, deadline=None)
settings.load_profile("the same examples every time")


#: Inputs for each property of a kernel, in the default tier and in the full one.
EXAMPLES = {False: 20, True: 80}

#: What the default tier leaves out: the words that a test marked `full` is marked with.
LEFT_OUT = (
    "pages in a browser",
    "Triton's interpreter and compiler",
    "13 of 16 trainings",
    "contexts that compile",
    "the second SMT solver",
    "every fp32 number as an argument of exp, expm1 and log1p",
    "losses on every route, on several processes and beside other libraries",
    "all but a sample of what Coq checks",
    "false statements put before Coq",
    "false variants before the rules of others",
    "what only a strict check rejects",
    "runs of the benchmarks",
    "the second route over the whole catalogue",
    "formulas of every entry read back",
    "attacks that take seconds",
    "most losses that identify has to name",
)


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="also run the tests marked full, and more examples of each")
    parser.addoption(
        "--nightly", action="store_true", help="with --full: every false statement before Coq, and more: hours"
    )
    parser.addoption("--examples", type=int, metavar="N", help="inputs for each property of a kernel (20; --full: 80)")


def pytest_configure(config):
    config.addinivalue_line("markers", "full(words): left out without --full; the words are in the header")
    examples = config.option.examples or EXAMPLES[config.option.full]
    os.environ["GRAPE_VERIFIED_EXAMPLES"] = str(examples)


def pytest_report_header(config):
    examples = os.environ["GRAPE_VERIFIED_EXAMPLES"]
    if config.option.full:
        return f"full tier: runs everything, with {examples} inputs for each property of a kernel"
    return (
        f"default tier: leaves out {', '.join(LEFT_OUT)}; tries each property of a kernel on {examples} inputs, not "
        f"{EXAMPLES[True]}; pytest --full runs everything"
    )


def pytest_collection_modifyitems(config, items):
    marks = {item: item.get_closest_marker("full") for item in items}
    unsaid = {item.nodeid for item, mark in marks.items() if mark and mark.args not in [(words,) for words in LEFT_OUT]}
    if unsaid:
        raise pytest.UsageError(f"marked full with words that the header does not have: {', '.join(sorted(unsaid))}")
    if not config.option.full:
        config.hook.pytest_deselected(items=[item for item in items if marks[item]])
        items[:] = [item for item in items if not marks[item]]


@pytest.fixture
def scratch_registry():
    """Restore the tables of symbols, definitions and claims after a test."""
    with restored():
        yield
