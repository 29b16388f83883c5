"""Several experiments beside each other: what their specs differ in, what their variants show, and how fair that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator import names
from orchestrator.analysis import pareto, rows
from orchestrator.analysis.comparisons import Comparison, compared, corrected, default_reference, verdict
from orchestrator.analysis.difference import Difference, paired, unpaired
from orchestrator.analysis.results import Results, VariantResult
from orchestrator.errors import UsageError
from orchestrator.registry import nearest
from orchestrator.search.plan import Arm, Plan
from orchestrator.search.trials import Phase, Record
from orchestrator.spec.base import Section
from orchestrator.spec.experiment import ExperimentSpec, digest
from orchestrator.spec.variants import flatten

ABSENT = "-"
"""Stands for a field that a spec does not have, as in another form of its section."""
MAX_NAMES = 4
"""Variants that are named in a warning that they share."""
MAX_TEXT = 50
"""Characters of a section in a table of differences."""
UNKNOWN = "not recorded"
SEARCH_EPOCHS = "search epochs"
CHANCE = 0.1
"""Share of the epochs of a search that early stopping may leave to chance."""
SAME = "Their specs differ in nothing but the name."


@dataclass(frozen=True)
class Entry:
    """One experiment."""

    id: str
    plan: Plan
    results: Results
    environments: Sequence[Mapping[str, Any]] = ()
    """What each of its sessions was run with."""
    home: str = ""
    """Where it is, as whoever compares calls it; tells two of one id apart."""
    standing: str | None = None
    """How far it is, where it has not come to its end."""

    @property
    def spec(self) -> ExperimentSpec:
        return self.plan.spec


@dataclass(frozen=True)
class Side:
    """One variant of one experiment."""

    name: str
    """EXPERIMENT/VARIANT."""
    entry: Entry
    arm: Arm
    variant: VariantResult

    @property
    def split(self) -> str:
        """Tells whether a seed means the same images, held out alike."""
        data = self.arm.variant.run.data
        content = data.teacher_content() | {"train_samples": data.train_samples}
        content.pop("augmentation", None)
        return digest([self.entry.spec.seed, content])

    @property
    def search_epochs(self) -> int:
        """Epochs that its search has trained, over all trials."""
        mine = (record for record in self.entry.results.records if record.trial.variant == self.variant.name)
        return sum(record.epochs for record in mine if record.trial.phase is Phase.SEARCH)

    def facts(self) -> dict[str, str]:
        """What has to be the same on both sides of a fair comparison, in words."""
        run, spec, searched = self.arm.variant.run, self.entry.spec, bool(self.arm.variant.space)
        data = run.data.teacher_content()
        apart = {"dataset", "validation_fraction", "augmentation"}
        also = "".join(f", {k} {v}" for k, v in flatten({k: data[k] for k in data if k not in apart}).items())
        ended = sum(count for status, count in self.variant.statuses.items() if status.ended)
        return {
            "data": f"{run.data.dataset}{also}",
            "split": f"seed {spec.seed}, validation fraction {run.data.validation_fraction:g}",
            "training images": str(run.data.train_samples or "all"),
            "teacher": ", ".join(_source(s.model.model, s.key, s.checkpoint) for s in self.arm.sources) or UNKNOWN,
            "search trials": str(ended),
            SEARCH_EPOCHS: str(self.search_epochs),
            "sampler": _with_options(spec.search.sampling) if searched else UNKNOWN,
            "early stopping": _with_options(spec.search.scheduler) if searched else UNKNOWN,
            "chosen by": ", ".join(spec.search.objectives),
            "epochs": str(self.arm.max_epochs),
            "final seeds": _seeds(sorted(self.variant.by_seed)),
            "precision": _precisions(self.variant.finals),
            "code": _versions(self.entry.environments, ("distillation-orchestrator", "git_commit")),
            "PyTorch": _versions(self.entry.environments, ("torch",)),
        }


@dataclass(frozen=True)
class Unfair:
    """Something that a comparison should not differ in, and does."""

    about: str
    variants: tuple[str, ...]
    value: str
    reference_value: str

    def __str__(self) -> str:
        more = ", ..." if len(self.variants) > MAX_NAMES else ""
        named = ", ".join(self.variants[:MAX_NAMES]) + more
        return f"not the same {self.about}: {self.value} for {named}; {self.reference_value} for the reference"


@dataclass(frozen=True)
class Across:
    """The comparison; `reference` is the EXPERIMENT/VARIANT, or ID/VARIANT, that all others are compared with.

    Without it a variant is compared with that of the same name in the first experiment, or, where that has none,
    with the first one's own reference. Raises `UsageError` for a reference that is not there.
    """

    entries: Sequence[Entry]
    reference: str | None = None
    sides: dict[str, Side] = field(init=False)
    """By name, in the order of experiments and variants."""

    def __post_init__(self) -> None:
        sides = [
            Side(f"{label}/{variant.name}", entry, entry.plan.by_name[variant.name], variant)
            for label, entry in zip(self.labels, self.entries, strict=True)
            for variant in entry.results.variants
        ]
        object.__setattr__(self, "sides", {side.name: side for side in sides})
        ids = Counter(entry.id for entry in self.entries)
        by_id = {f"{s.entry.id}/{s.variant.name}": s.name for s in sides if ids[s.entry.id] == 1}
        object.__setattr__(self, "reference", by_id.get(self.reference or "", self.reference))
        if self.reference is not None and self.reference not in self.sides:
            close = nearest(self.reference, self.sides)
            raise UsageError(
                f"there is no {self.reference!r} to compare with" + (f"; did you mean {close!r}?" if close else ""),
                hint=f"known: {', '.join(self.sides)}",
            )

    @property
    def labels(self) -> list[str]:
        """The experiments' names, or their ids where two have one name, and their homes where two have one id."""
        named, ids = Counter(e.spec.name for e in self.entries), Counter(e.id for e in self.entries)
        return [
            e.spec.name if named[e.spec.name] == 1 else e.id if ids[e.id] == 1 else f"{e.home}/{e.id}"
            for e in self.entries
        ]

    @property
    def references(self) -> dict[str, str]:
        """By EXPERIMENT/VARIANT: the one it is compared with."""
        if self.reference is not None:
            return {name: self.reference for name in self.sides if name != self.reference}
        first, label = self.entries[0], self.labels[0]
        otherwise = f"{label}/{default_reference(first.spec)}"
        same = {name: f"{label}/{side.variant.name}" for name, side in self.sides.items() if side.entry is not first}
        return {name: other if other in self.sides else otherwise for name, other in same.items()}

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Seed by seed where both sides have the same splits and seeds in common, else by Welch's test."""
        found = []
        for name, other in self.references.items():
            mine, theirs = self.sides[name].variant.by_seed, self.sides[other].variant.by_seed
            found.append(compared(name, mine, other, theirs, by_seed=self._pairs(name, other, mine, theirs)))
        return corrected(found)

    @property
    def spec_differences(self) -> dict[str, list[Any]]:
        """By dotted path: each experiment's value, or `ABSENT`."""
        found: dict[str, list[Any]] = {}
        _differences("", [entry.spec.model_dump(exclude={"name", "description"}) for entry in self.entries], found)
        return found

    @property
    def warnings(self) -> list[Unfair]:
        """What speaks against the comparison's fairness."""
        groups: dict[tuple[str, str, str], list[str]] = {}
        for name, other in self.references.items():
            mine, theirs = self.sides[name].facts(), self.sides[other].facts()
            for about, value in mine.items():
                if not _same(about, value, theirs[about]):
                    groups.setdefault((about, value, theirs[about]), []).append(name)
        return [Unfair(about, tuple(found), *values) for (about, *values), found in groups.items()]

    def front(self, listed: str) -> pareto.Front:
        """The Pareto front of all variants over their final seeds; see `Results.front`."""
        wanted = pareto.objectives(listed)
        found = (pareto.candidate(name, side.variant.finals, wanted) for name, side in self.sides.items())

        def compare(first: str, second: str, a: Mapping[int, float], b: Mapping[int, float]) -> Difference | None:
            return paired(a, b) if self._pairs(first, second, a, b) else unpaired([*a.values()], [*b.values()])

        return pareto.front([candidate for candidate in found if candidate], wanted, compare)

    def to_dict(self, objectives: str | None = None) -> dict[str, Any]:
        """Everything as JSON-like data."""
        return {
            "experiments": {
                label: {
                    "id": entry.id,
                    "hash": entry.spec.hash,
                    "home": entry.home,
                    "standing": entry.standing,
                    "environments": list(entry.environments),
                }
                for label, entry in zip(self.labels, self.entries, strict=True)
            },
            "spec_differences": {
                path: {label: v for label, v in zip(self.labels, values, strict=True) if v is not ABSENT}
                for path, values in self.spec_differences.items()
            },
            "warnings": [
                {"about": w.about, "variants": list(w.variants), "value": w.value, "reference_value": w.reference_value}
                for w in self.warnings
            ],
            "variants": [{**rows.variant_dict(side.variant), "name": name} for name, side in self.sides.items()],
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "verdict": verdict(self.comparisons),
            "pareto": self.front(objectives).to_dict() if objectives else None,
        }

    def to_markdown(self, objectives: str | None = None) -> str:
        """Everything as Markdown tables, what it shows, and what is not fair about it."""
        named = [(name, side.variant, side.entry.spec.search.first_metric) for name, side in self.sides.items()]
        comparisons = [c for c in self.comparisons if c.difference]
        parts = [rows.markdown_table(rows.variants_table(named))]
        if comparisons:
            parts += [rows.markdown_table(rows.comparison_table(comparisons)), rows.about(comparisons)]
            parts += verdict(comparisons)
        if objectives:
            parts.append(self.front(objectives)._repr_markdown_())
        differences = self.differences_table()
        parts.append(rows.markdown_table(differences) if differences[1] else SAME)
        if remarks := [*self.unfinished, *map(str, self.warnings)]:
            parts.append("\n".join(f"- {text}" for text in remarks))
        return "\n\n".join(filter(None, parts))

    @property
    def unfinished(self) -> list[str]:
        """A line for each experiment that has not come to its end."""
        pairs = zip(self.labels, self.entries, strict=True)
        return [f"{label} is not at its end: {entry.standing}" for label, entry in pairs if entry.standing]

    def variant_rows(self) -> list[dict[str, Any]]:
        """A flat mapping for each variant and its comparison."""
        found = {comparison.variant: comparison for comparison in self.comparisons}
        return [
            {
                **rows.variant_row(side.variant, found.get(name), side.entry.spec.search.first_metric),
                "variant": name,
            }
            for name, side in self.sides.items()
        ]

    def differences_table(self) -> rows.Table:
        """The specs' differences as text; of a whole section that others lack, no more than that it is given."""
        found = [[path, *map(_short, values)] for path, values in self.spec_differences.items()]
        return ["field", *self.labels], found

    def _pairs(self, name: str, other: str, mine: Mapping[int, float], theirs: Mapping[int, float]) -> bool:
        """Whether a seed made the same choices on both sides, so that runs are compared seed by seed."""
        return self.sides[name].split == self.sides[other].split and bool(mine.keys() & theirs.keys())


def _differences(path: str, nodes: Sequence[Any], found: dict[str, list[Any]]) -> None:
    """Gather what the nodes differ in, as far down as all of them are mappings."""
    if all(node == nodes[0] for node in nodes):
        return
    if not all(isinstance(node, Mapping) for node in nodes):
        found[path] = list(nodes)
        return
    for key in dict.fromkeys(key for node in nodes for key in node):
        _differences(f"{path}.{key}" if path else key, [node.get(key, ABSENT) for node in nodes], found)


def _same(about: str, value: str, other: str) -> bool:
    if about == SEARCH_EPOCHS:
        mine, theirs = int(value), int(other)
        return abs(mine - theirs) <= CHANCE * max(mine, theirs)
    return value == other or UNKNOWN in (value, other)


def _with_options(section: Section) -> str:
    """A section's method, and its options in brackets, defaults too."""
    options = section.model_dump(exclude={"method"}, exclude_none=True)
    told = ", ".join(f"{name} {_text(value)}" for name, value in options.items())
    method = str(section.model_dump()["method"])
    return f"{method} ({told})" if told else method


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= MAX_TEXT or not isinstance(value, Mapping) else "given"


def _text(value: Any) -> str:
    """A value of a spec in a table: what is unset inside it is left out."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_text(v)}" for k, v in value.items() if v not in (None, {}, [])) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return "unset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _source(model: str, key: str | None, checkpoint: str | None) -> str:
    return f"{model} {key[:8]}" if key else f"{model} {checkpoint}"


def _precisions(finals: Sequence[Record]) -> str:
    """What the final runs computed in, which `auto` leaves to their machines."""
    found = {str(run.described[names.PRECISION]) for run in finals if names.PRECISION in run.described}
    return ", ".join(sorted(found)) or UNKNOWN


def _seeds(seeds: Sequence[int]) -> str:
    if not seeds:
        return UNKNOWN
    whole = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _versions(environments: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    """The versions that an experiment's sessions were run with, each once."""
    told = [" ".join(str(env[key]) for key in keys if env.get(key)) for env in environments]
    return ", ".join(dict.fromkeys(filter(None, told))) or UNKNOWN
