"""The linear programs that find scripts for inequalities: their result is the same on a busy machine and in threads."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from random import Random

from grape_spec.coq import inequalities
from grape_spec.coq.inequalities import Known, Term, _solved

ROOT = Path(__file__).parents[2]

#: Threads that solve at once, each several times, and whether all find what one alone does.
IN_THREADS = """
from concurrent.futures import ThreadPoolExecutor
from grape_spec.coq.inequalities import _solved
from tests.coq.test_linear_programs import program

alone = _solved(program(40, 15))
with ThreadPoolExecutor(4) as pool:
    print(all(found == alone for found in pool.map(lambda _: _solved(program(40, 15)), range(24))))
"""


def program(terms, monomials):
    """A linear program, the same at every call; 80 terms take more than half a second."""
    draw, found = Random(1), []
    for number in range(terms):
        form = {((f"x{n}", 1),): Fraction(draw.randint(-9, 9)) for n in range(monomials) if draw.random() < 0.2}
        found.append((form, Term(Fraction(1), (), Known("proof", form, ">=" if number else ">"))))
    return found


def test_a_linear_program_ends_by_what_it_computes_and_not_by_the_clock(monkeypatch):
    def found(effort):
        monkeypatch.setattr(inequalities, "_EFFORT", effort)
        return _solved(program(80, 30)) is not None

    assert not found(100_000)
    assert found(1_000_000)


def test_threads_solve_at_once_what_each_solves_alone():
    """In a process of its own: threads that share a context of the solver end the process."""
    run = subprocess.run(
        [sys.executable, "-c", IN_THREADS],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "spec")))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "True\n"), run.stderr
