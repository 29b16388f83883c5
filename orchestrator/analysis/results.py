"""The results of an experiment: its trials, each variant's best, and the comparison over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrator import names
from orchestrator.analysis import pareto, rows
from orchestrator.analysis.comparisons import Comparison, compared, corrected, references, verdict
from orchestrator.analysis.formats import format_changes
from orchestrator.analysis.statistics import Summary, summarise
from orchestrator.search.plan import Plan
from orchestrator.search.population import lineage
from orchestrator.search.ranking import best_record
from orchestrator.search.standing import State
from orchestrator.search.trials import Change, Phase, Record, Status
from orchestrator.search.winners import outdated, place_of
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.spec.variants import variant_specs

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class VariantResult:
    """One arm of the comparison."""

    name: str
    best: Record | None
    """The search trial whose values were chosen, on validation data."""
    finals: tuple[Record, ...]
    """The runs of these values on fresh seeds that have a result."""
    statuses: Mapping[Status, int]
    """How many search trials ended which way."""
    first: Mapping[str, Any]
    """The winning values, or where they change in mid-training, what the winning weights began with."""
    changes: tuple[Change, ...]
    """What those became."""

    @property
    def params(self) -> dict[str, Any]:
        """The winning values; where they change in mid-training, the last ones."""
        return dict(self.best.params) if self.best else {}

    @property
    def chosen(self) -> str:
        """The winning values in one line, or why there are none."""
        if self.best is not None:
            return format_changes(self.first, self.changes) or "none searched"
        return "all trials failed" if set(self.statuses) == {Status.FAILED} else "-"

    @property
    def by_seed(self) -> dict[int, float]:
        """Test accuracy in percent of each final run, by its seed."""
        return {r.trial.seed: r.metrics[names.TEST_ACC1] for r in self.finals if names.TEST_ACC1 in r.metrics}

    @cached_property
    def test(self) -> Summary | None:
        """Test accuracy in percent over the final seeds."""
        return summarise([*self.by_seed.values()])

    @cached_property
    def val(self) -> Summary | None:
        """Validation accuracy in percent over the final seeds."""
        return summarise([r.metrics[names.VAL_ACC1] for r in self.finals if names.VAL_ACC1 in r.metrics])


class Results:
    """What an experiment has found so far.

    `reference` names the variant that the others are compared with, in place of the spec's; `id` the experiment,
    where that is not the spec's own since it was extended.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        records: Mapping[str, Record],
        reference: str | None = None,
        id: str | None = None,
    ) -> None:
        self.spec = spec
        self.id = id or spec.id
        self.records = list(records.values())
        self.references = references(spec, reference)
        """By variant: what it is compared with."""

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return self.to_markdown()

    @property
    def variants(self) -> list[VariantResult]:
        """Every arm, in the order of the spec."""
        return [self._variant(name) for name in variant_specs(self.spec)]

    @property
    def comparisons(self) -> list[Comparison]:
        """The test accuracy of every variant that has a reference beside that one's, over the seeds of both."""
        tests = {variant.name: variant.by_seed for variant in self.variants}
        pairs = self.references.items()
        return corrected([compared(name, tests[name], other, tests[other]) for name, other in pairs])

    def front(self, listed: str | None = None) -> pareto.Front | None:
        """The Pareto front over the objectives, listed with commas: of variants over their final seeds, or of trials.

        It is of variants, and of what else final runs repeat, where an objective is measured on test images, else of
        search trials. Without a list, the search's own metrics are weighed where it has several, on test images where
        several configurations were tested; else test accuracy against size where students differ in size, and None
        where they do not.
        Raises `UsageError` for what is no objective, or for fewer than two.
        """
        if listed is not None:
            return self._front(pareto.objectives(listed))
        search = self.spec.search
        if len(search.objectives) > 1:
            tested = search.final_seeds and search.final_configs > 1
            wanted = [name.replace("val/", pareto.TEST) if tested else name for name in search.objectives]
            return self._front([pareto.OBJECTIVES[name] for name in wanted])
        accuracy = names.TEST_ACC1 if self.spec.search.final_seeds else names.VAL_ACC1
        found = self._front([pareto.OBJECTIVES[name] for name in (accuracy, pareto.PARAMETERS, pareto.MULTIPLY_ADDS)])
        return found if len({p.candidate.mean(found.objectives[1]) for p in found.placed}) > 1 else None

    def runs(self, wanted: Sequence[pareto.Objective]) -> dict[str, Sequence[Record]]:
        """The runs that have values of the objectives, by what they are runs of."""
        if any(objective.name.startswith(pareto.TEST) for objective in wanted):
            found: dict[str, Sequence[Record]] = {variant.name: variant.finals for variant in self.variants}
            own = {record.trial.id for finals in found.values() for record in finals}
            own |= outdated({record.trial.id: record for record in self.records}, self.spec.search)
            further: dict[str, list[Record]] = {}
            for record in self.records:
                repeats, is_other = record.trial.repeats, record.trial.id not in own
                if repeats is not None and is_other and record.status is Status.FINISHED:
                    further.setdefault(repeats, []).append(record)
            return {**found, **further}
        trials = [r for r in self.records if r.trial.phase is Phase.SEARCH and r.status.has_result]
        return {record.trial.id: [record] for record in trials}

    @property
    def teachers(self) -> list[Record]:
        return [record for record in self.records if record.trial.phase is Phase.TEACHER]

    @property
    def answered(self) -> bool:
        """Whether every variant has a result that the comparison needs."""
        return not self._unanswered

    @property
    def _unanswered(self) -> list[VariantResult]:
        seeds = self.spec.search.final_seeds
        return [v for v in self.variants if v.best is None or (seeds and not v.finals)]

    def outcome(self, plan: Plan, spent: str | None) -> State:
        """What an experiment is of which nothing is left to run; `spent` is the limit that its search has reached."""
        cut = (sum(v.statuses.values()) < plan.by_name[v.name].count for v in self._unanswered)
        if self.answered:
            return State.COMPLETE
        return State.SPENT if spent is not None and any(cut) else State.FAILED

    def count(self, status: Status) -> int:
        return sum(record.status is status for record in self.records)

    def summary_metrics(self) -> dict[str, float]:
        """The comparison as metrics of the parent run."""
        metrics: dict[str, float] = {}
        for variant in self.variants:
            if variant.test is not None:
                metrics[f"{variant.name}/test_acc1_mean"] = variant.test.mean
                if variant.test.sd is not None:
                    metrics[f"{variant.name}/test_acc1_sd"] = variant.test.sd
            if variant.best is not None:
                metrics[f"{variant.name}/best_{self.spec.search.first_metric.replace('/', '_')}"] = (
                    variant.best.metrics[self.spec.search.first_metric]
                )
        for comparison in self.comparisons:
            if comparison.difference and comparison.p_holm is not None:
                metrics[f"{comparison.variant}/difference_to_reference"] = comparison.difference.mean
                metrics[f"{comparison.variant}/p_holm"] = comparison.p_holm
        return {_mlflow_name(name): value for name, value in metrics.items()}

    def to_dict(self, objectives: str | None = None) -> dict[str, Any]:
        """Everything as JSON-like data; accuracies in percent. `objectives` as in `front`."""
        front = self.front(objectives)
        return {
            "name": self.spec.name,
            "id": self.id,
            "hash": self.spec.hash,
            "metric": self.spec.search.metric,
            "mode": self.spec.search.mode,
            "variants": [rows.variant_dict(variant) for variant in self.variants],
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "verdict": verdict(self.comparisons),
            "pareto": front and front.to_dict(),
            "trials": [rows.trial_dict(record) for record in self.records],
        }

    def to_json(self, objectives: str | None = None) -> str:
        return json.dumps(self.to_dict(objectives), indent=2)

    def variant_rows(self) -> list[dict[str, Any]]:
        """A flat mapping for each variant: its accuracies, its comparison with its reference, its winning values."""
        found = {comparison.variant: comparison for comparison in self.comparisons}
        return [
            rows.variant_row(variant, found.get(variant.name), self.spec.search.first_metric)
            for variant in self.variants
        ]

    def trial_rows(self) -> list[dict[str, Any]]:
        """A flat mapping for each trial: its values under "params.", its last metrics under their names."""
        return [rows.trial_row(record) for record in self.records]

    def to_frame(self) -> DataFrame:
        """One row a variant, as in `variant_rows`."""
        return rows.frame(self.variant_rows(), "variant")

    def trials_frame(self) -> DataFrame:
        """One row a trial, as in `trial_rows`."""
        return rows.frame(self.trial_rows(), "id")

    def comparisons_frame(self) -> DataFrame:
        """One row for each variant that has a reference, as in `Comparison.to_row`."""
        return rows.frame([comparison.to_row() for comparison in self.comparisons], "variant")

    def to_markdown(self, objectives: str | None = None) -> str:
        """The comparison as Markdown tables, and what it shows; `objectives` as in `front`."""
        return rows.markdown(self, objectives)

    def _front(self, wanted: Sequence[pareto.Objective]) -> pareto.Front:
        found = (pareto.candidate(name, records, wanted) for name, records in self.runs(wanted).items())
        return pareto.front([candidate for candidate in found if candidate], wanted)

    def _variant(self, name: str) -> VariantResult:
        mine = [record for record in self.records if record.trial.variant == name]
        search = [record for record in mine if record.trial.phase is Phase.SEARCH]
        finals = [r for r in mine if r.trial.phase is Phase.FINAL and r.status is Status.FINISHED]
        counts = {status: sum(record.status is status for record in search) for status in Status}
        best = best_record(search, self.spec.search)
        own = [record for record in finals if best is None or place_of(record.trial, [best]) == 0]
        by_id = {record.trial.id: record for record in search}
        first, changes = ({}, ()) if best is None else lineage(best, by_id.__getitem__)
        return VariantResult(
            name,
            best,
            tuple(sorted(own, key=lambda record: record.trial.index)),
            {status: count for status, count in counts.items() if count},
            first,
            changes,
        )


def _mlflow_name(name: str) -> str:
    """MLflow takes no "+". No variant's name holds a blank, so two of them never become one."""
    return name.replace("+", " ")
