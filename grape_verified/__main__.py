"""The command ``grape-verified``; its dependencies come with the extra ``verify``."""

import sys
from multiprocessing import get_all_start_methods

#: What the server imports before it starts a worker.
WORK = "grape_verified.conformance.verification"


def main() -> None:
    """Run the command line, or name the missing package in one line."""
    if sys.argv[1:2] == ["verify"] and "forkserver" in get_all_start_methods():
        start_server()
    try:
        from grape_verified.cli import app, watched
    except ModuleNotFoundError as missing:
        raise SystemExit(
            f"grape-verified: the package {missing.name} is not installed: run pip install 'grape-verified[verify]'"
        ) from None
    watched.may_fork = True
    app()


def start_server() -> None:
    """Start the server of the workers, so that it imports while this process does."""
    from multiprocessing import forkserver  # not there on every platform

    forkserver.set_forkserver_preload([WORK])
    forkserver.ensure_running()


if __name__ == "__main__":
    main()
