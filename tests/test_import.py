"""What importing the package pulls in."""

import importlib
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

import grape_verified
import grape_verified.rubrics
from grape_verified.conformance import verification

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


def test_the_commands_do_without_the_extra_for_the_documentation():
    assert modules_after("import grape_verified.cli").isdisjoint(
        {"material", "mkdocs", "mkdocstrings", "py_mini_racer"}
    )


def test_the_command_says_in_one_line_what_is_missing():
    code = "import sys; sys.modules['typer'] = None; from grape_verified.__main__ import main; main()"
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert run.returncode == 1
    expected = "grape-verified: the package typer is not installed: run pip install 'grape-verified[verify]'\n"
    assert run.stderr == expected


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="no server of workers here")
@pytest.mark.parametrize(("command", "expected"), [("verify", "started"), ("list", "not started")])
def test_the_server_of_the_workers_starts_before_the_imports_of_verify(command, expected):
    code = (
        "import sys\n"
        "sys.modules['typer'] = None\n"
        f"sys.argv = ['grape-verified', {command!r}]\n"
        "from multiprocessing import forkserver\n"
        "from grape_verified.__main__ import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    server = forkserver._forkserver\n"
        "    print('started' if server._forkserver_pid else 'not started', *server._preload_modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    preloaded = "__main__" if expected == "not started" else verification.__name__
    assert run.stdout.split() == [*expected.split(), preloaded]


#: Folders of grape_verified whose public names are not among those of the package.
APART = {"cli", "conformance", "docs", "rubrics"}


def modules_with_public_names(package):
    """Every module of a package that says in `__all__` what is public."""
    folder = Path(package.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder)
        text = path.read_text(encoding="utf-8")
        if inside.parts[0] not in APART and inside.name != "__init__.py" and "\n__all__ = " in text:
            yield importlib.import_module(".".join([package.__name__, *inside.with_suffix("").parts]))


@pytest.mark.parametrize("package", [grape_verified, grape_verified.rubrics])
def test_a_package_exports_exactly_what_its_modules_do(package):
    names = [name for module in modules_with_public_names(package) for name in module.__all__]
    assert names
    assert sorted(names) == sorted(set(package.__all__) - {"__version__"})
    assert len(package.__all__) == len(set(package.__all__))
    for name in package.__all__:
        assert hasattr(package, name)
