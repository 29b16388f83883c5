from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import Problem, SpecError
from orchestrator.spec import ExperimentSpec, load_spec

Overrides = Mapping[str, Any] | Iterable[str] | None
Load = Callable[..., ExperimentSpec]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a spec from YAML text, through a file."""

    def load(text: str, overrides: Overrides = None) -> ExperimentSpec:
        path = tmp_path / "spec.yaml"
        path.write_text(text, encoding="utf-8")
        return load_spec(path, overrides)

    return load


@pytest.fixture
def problems(load: Load) -> Callable[..., list[Problem]]:
    """The problems that a YAML text is refused with."""

    def problems(text: str, overrides: Overrides = None) -> list[Problem]:
        with pytest.raises(SpecError) as caught:
            load(text, overrides)
        assert caught.value.exit_code == 2
        return caught.value.problems

    return problems
