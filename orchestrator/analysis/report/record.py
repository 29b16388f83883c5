"""The sections of a report that tell what it took: cost, failures, environment, and how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.analysis.charts import every
from orchestrator.analysis.charts.style import Styles
from orchestrator.analysis.evidence import Evidence
from orchestrator.analysis.formats import format_seconds
from orchestrator.analysis.notes import reason, stops, teacher_found
from orchestrator.analysis.report.content import Block, Charts, Circumstances, Code, Section, Tabled, Text
from orchestrator.analysis.results import Results
from orchestrator.analysis.rows import Table
from orchestrator.search.trials import Phase, Status

MAX_REASONS = 30
"""Different reasons of failures that are told."""
MAX_NAMES = 5
"""Trials that are named with a reason they share."""
PHASES = {Phase.TEACHER: "teachers", Phase.SEARCH: "search", Phase.FINAL: "final runs"}


def cost(evidence: Evidence, circumstances: Circumstances, style: Styles) -> Section:
    """Trials, epochs and time, and what did not have to be done again."""
    blocks: list[Block] = [Tabled(cost_table(evidence.results))]
    charts = every.spent(evidence, style)
    if charts:
        blocks.append(Charts(tuple(charts), wide=True))
    blocks.append(
        Text(
            f"The experiment took {format_seconds(circumstances.seconds)} in "
            f"{_count(len(circumstances.environments) or 1, 'session')}; times of trials that ran at once are added up."
        )
    )
    blocks += [Text(line) for line in _saved(evidence, circumstances)]
    return Section("cost", "Cost", tuple(blocks))


def failures(evidence: Evidence) -> Section:
    """Why trials failed or were stopped."""
    blocks: list[Block] = [Text(f"{line[0].upper()}{line[1:]}.") for line in stops(evidence.results.records)]
    table = failures_table(evidence.results)
    blocks.append(Tabled(table) if table[1] else Text("No trial failed."))
    return Section("failures", "Failures", tuple(blocks))


def environment(circumstances: Circumstances) -> Section:
    """What it was run with."""
    known = [{k: v for k, v in each.items() if k != "command"} for each in circumstances.environments]
    kept = [each for place, each in enumerate(known) if each not in known[:place]]
    if not kept:
        return Section("environment", "Environment", (Text("This experiment's journal does not tell it."),))
    different = Text("Sessions were run with different versions or on different machines.", warning=True)
    return Section("environment", "Environment", (*([different] if len(kept) > 1 else []), Tabled(_environments(kept))))


def again(evidence: Evidence, circumstances: Circumstances) -> Section:
    """How to repeat it, with the whole spec."""
    spec = evidence.results.spec
    file = f"{spec.name}.yaml"
    last = circumstances.environments[-1] if circumstances.environments else {}
    version, commit = last.get("distillation-orchestrator"), last.get("git_commit")
    of = f" of version {version}" if version else ""
    at = f", in a working folder at commit {commit}" if commit else ""
    return Section(
        "again",
        "Run it again",
        (
            Text(f"Save the spec below as {file} and run it with this package{of}{at}."),
            Code(f"orchestrator run {shlex.quote(file)}"),
            Text("In the same home folder that repeats nothing; --fresh starts over."),
            Code(circumstances.spec, f"{file} (hash {spec.hash})", folded=True),
        ),
    )


def cost_table(results: Results) -> Table:
    """One row for teachers, search and final runs."""
    rows = []
    for phase, name in PHASES.items():
        mine = [record for record in results.records if record.trial.phase is phase]
        if mine:
            ended = [sum(record.status is status for record in mine) for status in (Status.FINISHED, Status.STOPPED)]
            failed = sum(record.status is Status.FAILED for record in mine)
            rows.append(
                [
                    name,
                    str(len(mine)),
                    *map(str, ended),
                    str(failed),
                    str(len(mine) - sum(ended) - failed),
                    f"{sum(record.epochs for record in mine):,}",
                    format_seconds(sum(record.seconds for record in mine)),
                ]
            )
    return ["", "trials", "finished", "stopped", "failed", "unfinished", "epochs", "time"], rows


def failures_table(results: Results) -> Table:
    """Each reason of failures once, with the trials that it ended."""
    groups: dict[str, list[str]] = {}
    for record in results.records:
        if record.status is Status.FAILED or (record.status is Status.INTERRUPTED and record.reason):
            groups.setdefault(reason(record) or "no reason was told", []).append(record.trial.id)
    rows = [
        [str(len(ids)), ", ".join(ids[:MAX_NAMES]) + (", ..." if len(ids) > MAX_NAMES else ""), text]
        for text, ids in sorted(groups.items(), key=lambda group: -len(group[1]))[:MAX_REASONS]
    ]
    return ["failed", "trials", "reason"], rows


def _saved(evidence: Evidence, circumstances: Circumstances) -> list[str]:
    """What was found instead of computed."""
    found, results = circumstances.found_teachers, evidence.results
    only = len(found) + len(results.teachers) == 1
    lines = [f"{teacher_found(key, accuracy, only=only)}: it was not trained again." for key, accuracy in found.items()]
    decided = circumstances.stored_logits.values()
    stored = sum(bool(made["stored"]) for made in decided)
    if stored:
        lines.append(
            "Teacher logits were computed once and read by all runs that share them: "
            f"{stored} of {_count(len(circumstances.stored_logits), 'set')} of augmented images are stored."
        )
    elif decided:
        lines.append("No teacher logits were stored: the teacher was run in every step.")
    early = [r for r in results.records if r.trial.phase is Phase.SEARCH and r.status is Status.STOPPED]
    if early:
        lines.append(f"{_count(len(early), 'search trial')} stopped early, after {_epochs(early)} epochs on average.")
    return lines


def _epochs(records: Sequence[Any]) -> str:
    return f"{sum(record.epochs for record in records) / len(records):.0f}"


def _environments(known: Sequence[Mapping[str, Any]]) -> Table:
    fields = dict.fromkeys(name for each in known for name in each)
    head = ["", *(["value"] if len(known) == 1 else (f"environment {place}" for place in range(1, len(known) + 1)))]
    rows = [[name.replace("_", " "), *(str(each.get(name, "-")) for each in known)] for name in fields]
    return head, [row for row in rows if any(row[1:])]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
