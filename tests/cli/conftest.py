"""For tests of commands on a home folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.store.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], home: Home) -> Callable[..., tuple[int, str]]:
    """Runs a command on the home folder; gives its exit code and what it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main([*map(str, arguments), "--home", str(home.path)])
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out + captured.err

    return run
