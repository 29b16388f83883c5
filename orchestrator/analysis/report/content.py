"""What a report says, section by section, whatever it is written as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.analysis.charts.style import Chart
from orchestrator.analysis.rows import Table
from orchestrator.search.standing import State


@dataclass(frozen=True)
class Circumstances:
    """What a report needs beside the evidence; all of it plain."""

    id: str
    state: State
    spent: str | None
    """Of `State.SPENT`: the field of the limit that its search has reached."""
    found_teachers: Mapping[str, float | None]
    """Validation accuracy in percent of the teachers that were found again, by key."""
    seconds: float
    """Of all sessions."""
    environments: Sequence[Mapping[str, Any]]
    """What each session was run with."""
    stored_logits: Mapping[str, Any]
    """What was decided of storing teachers' logits: `store.home.ExperimentFolder.logit_decisions`."""
    spec: str
    """As YAML; none is read that holds a password."""
    sizes: Mapping[str, int | None] = field(default_factory=dict)
    """Parameters of each variant's student, where they are known."""


@dataclass(frozen=True)
class Text:
    """A paragraph; `warning` where it speaks against what is shown."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Tabled:
    """A table; `by_variant` where the first column names variants."""

    table: Table
    caption: str = ""
    by_variant: bool = False
    folded: bool = False
    """Whether it is opened only where it is asked for."""


@dataclass(frozen=True)
class Charts:
    """Charts beside each other where there is room."""

    charts: tuple[Chart, ...]
    wide: bool = False
    """Whether each takes the whole width."""
    tables: bool = True
    """Whether each comes with its figures; not where a table beside it has them."""


@dataclass(frozen=True)
class Code:
    """Commands or a file's text."""

    text: str
    caption: str = ""
    folded: bool = False


Block = Text | Tabled | Charts | Code


@dataclass(frozen=True)
class Section:
    """One heading and what stands below."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A whole report."""

    name: str
    id: str
    state: str
    question: str
    answer: tuple[str, str]
    facts: tuple[tuple[str, str], ...]
    """The experiment at a glance: a figure, and what it is of."""
    variants: tuple[str, ...]
    sections: tuple[Section, ...]
