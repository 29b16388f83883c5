"""Programs that packages of the tests bring along."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def complaints(name: str, *arguments: str | Path) -> str:
    """What a linter has to say; nothing if it is content."""
    program = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, f"{name} is missing; install the extra dev"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert bool(done.stdout) == bool(done.returncode), done.stderr
    return done.stdout


def shellcheck(script: Path) -> str:
    """SC2154 is about variables that come from the environment."""
    return complaints("shellcheck", "--exclude=SC2154", script)
