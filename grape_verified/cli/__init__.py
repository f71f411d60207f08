"""The command line: verify, certify, list, show, cite, check, identify, contexts, docs."""

from grape_verified.cli.commands import app

__all__ = ["app"]
