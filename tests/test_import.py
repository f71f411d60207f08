"""What importing the package pulls in."""

import subprocess
import sys

HEAVY = ("sympy", "flint", "z3", "hypothesis", "transformers", "grape_spec", "typer", "rich", "triton")


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after a statement."""
    code = f"import sys; {statement}; print(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_plain_import_leaves_heavy_packages_alone():
    """What torch imports by itself is not ours to forbid."""
    ours = modules_after("import grape_verified") - modules_after("import torch, numpy, jaxtyping")
    assert "grape_verified" in ours
    assert ours.isdisjoint(HEAVY)


def test_the_spec_does_not_import_torch():
    assert "torch" not in modules_after("import grape_spec")


def test_the_command_says_in_one_line_what_is_missing():
    code = "import sys; sys.modules['typer'] = None; from grape_verified.__main__ import main; main()"
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr == ("grape-verified: the package typer is not installed; pip install 'grape-verified[verify]'\n")
