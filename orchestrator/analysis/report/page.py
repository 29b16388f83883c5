"""An experiment's report, put together from its sections."""

from __future__ import annotations

from orchestrator.analysis.answer import answer
from orchestrator.analysis.charts.style import Styles, styles
from orchestrator.analysis.evidence import Evidence
from orchestrator.analysis.formats import format_seconds
from orchestrator.analysis.report import record, sections
from orchestrator.analysis.report.content import Circumstances, Page
from orchestrator.search.trials import Phase
from orchestrator.spec.experiment import ExperimentSpec

MAX_NAMES = 5
"""Variants that are named in a question."""


def make_page(evidence: Evidence, circumstances: Circumstances) -> Page:
    """The whole report; sections that have nothing to say are left out."""
    style: Styles = styles(evidence.variants)
    results = evidence.results
    made = [
        sections.comparison(evidence, circumstances, style),
        sections.learning(evidence, style),
        sections.temperatures(evidence, style),
        sections.mistakes(evidence, style),
        sections.search(evidence, style),
        sections.trade_offs(evidence, circumstances, style),
        record.cost(evidence, circumstances, style),
        record.failures(evidence),
        record.environment(circumstances),
        record.again(evidence, circumstances),
    ]
    return Page(
        results.spec.name,
        circumstances.id,
        str(circumstances.state),
        question(results.spec, evidence.variants),
        answer(results, circumstances.state),
        tuple(_facts(evidence, circumstances)),
        evidence.variants,
        tuple(section for section in made if section.blocks),
    )


def question(spec: ExperimentSpec, variants: tuple[str, ...]) -> str:
    """What the spec says that it asks, or what its variants ask."""
    if spec.description:
        return spec.description
    if len(variants) == 1:
        return f"How well does {spec.student.model} learn {spec.data.dataset}?"
    named = (
        f"{', '.join(variants[:-1])} and {variants[-1]}" if len(variants) <= MAX_NAMES else f"{len(variants)} variants"
    )
    return f"How do {named} compare on {spec.data.dataset}?"


def _facts(evidence: Evidence, circumstances: Circumstances) -> list[tuple[str, str]]:
    spec, records = evidence.results.spec, evidence.results.records
    images = f"{spec.data.train_samples:,} training images" if spec.data.train_samples else "all training images"
    ended = {phase: sum(r.trial.phase is phase and r.status.ended for r in records) for phase in Phase}
    facts = [
        (spec.data.dataset, images),
        (f"{spec.teacher.model} → {spec.student.model}", "teacher → student")
        if spec.teacher
        else (spec.student.model, "student"),
        (str(len(evidence.variants)), "variant" if len(evidence.variants) == 1 else "variants"),
        (f"{ended[Phase.SEARCH]:,}", "search trials"),
    ]
    if spec.search.final_seeds:
        facts.append((f"{ended[Phase.FINAL]:,}", f"final runs, {spec.search.final_seeds} seeds each"))
    facts.append((format_seconds(circumstances.seconds), "of work"))
    return facts
