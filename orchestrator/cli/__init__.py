"""The command line."""

from orchestrator.cli.app import main

__all__ = ["main"]
