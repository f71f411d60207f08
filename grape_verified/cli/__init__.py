"""The command line: verify, list, show, cite, check, contexts, docs."""

from grape_verified.cli.commands import app

__all__ = ["app"]
