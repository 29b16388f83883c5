"""What a run's results depend on beside its spec: versions, processor, the working folder's commit."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from orchestrator.machine import this_machine

PACKAGES = (
    "distillation-orchestrator",
    "torch",
    "torchvision",
    "ray",
    "mlflow",
    "optuna",
    "pydantic",
    "numpy",
)

OWNER_VARIABLE = "ORCHESTRATOR_OWNER"
AGAIN_VARIABLE = "ORCHESTRATOR_AGAIN"
"""How a run is continued that another command has started."""
COMMIT_VARIABLE = "ORCHESTRATOR_COMMIT"
"""Tells the commit where the code was sent without its repository."""


def describe() -> dict[str, str | float]:
    """The environment as flat data; nothing that identifies a person or a host."""
    machine = this_machine()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": machine.cpus,
        "gpus": machine.gpus,
        **{name: version_of(name) for name in PACKAGES},
        "git_commit": git_commit(),
        # Without its other arguments: they may hold passwords and home folders, and the spec is kept anyway.
        "command": " ".join([Path(sys.argv[0]).name, *(word for word in sys.argv[1:2] if word.isalpha())]),
    }


def git_commit(folder: Path | None = None) -> str:
    """The folder's commit, marked where files differ from it; "" outside a repository."""
    if sent := os.environ.get(COMMIT_VARIABLE):
        return sent
    try:
        commit = _git(["rev-parse", "HEAD"], folder)
        changed = _git(["status", "--porcelain", "--untracked-files=no"], folder)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit} (changed)" if changed else commit


def _git(arguments: list[str], folder: Path | None) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def version_of(package: str) -> str:
    """A package's version, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def owner() -> str:
    """Who an experiment belongs to: ORCHESTRATOR_OWNER, else this process's user."""
    try:
        return os.environ.get(OWNER_VARIABLE) or getpass.getuser()
    except (ImportError, KeyError, OSError):
        return "unknown"
