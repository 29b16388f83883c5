"""The plan: what an experiment will run, as data that prints, counts and compares before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from orchestrator.errors import ResourceError
from orchestrator.machine import Machine
from orchestrator.search.points import first_points, grid_points, random_points
from orchestrator.search.sizes import ModelSize, size_in
from orchestrator.search.teachers import Source, TeacherRun, teaching
from orchestrator.search.trials import ASSISTANT, Change, Phase, Record, Trial
from orchestrator.search.winners import outdated
from orchestrator.spec.experiment import ExperimentSpec, RunSpec
from orchestrator.spec.resources import ResourcesSpec
from orchestrator.spec.schedulers import PopulationScheduler
from orchestrator.spec.variants import Variant, variants

GRID_REPEAT_SEED = 100_000
"""Distance of the seeds of a grid's repeats from the experiment's, away from those of final runs."""


@dataclass(frozen=True)
class Arm:
    """A variant with its part of the budget."""

    variant: Variant
    count: int
    """Search trials."""
    points: tuple[Mapping[str, Any], ...] | None
    """The trials' values, where they do not depend on results."""
    first: tuple[Mapping[str, Any], ...]
    """Those that are tried before the sampler draws any; among `points` where there are such."""
    sources: tuple[Source, ...]
    """Networks that its students learn from, whatever their seed."""

    @property
    def teacher_keys(self) -> list[str]:
        """Of the stage-0 runs that have to end before its students can start."""
        return [source.key for source in self.sources if source.key is not None]

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def max_epochs(self) -> int:
        """Epochs of a trial; where they are searched, the largest number."""
        domain = self.variant.space.get("training.epochs")
        return int(max(domain.extremes)) if domain else self.variant.run.training.epochs

    @property
    def example(self) -> RunSpec:
        """A run of its space."""
        ends = {path: domain.extremes[0] for path, domain in self.variant.space.items()}
        return self.variant.run.with_values(self.points[0] if self.points else self.variant.repaired(ends))

    @property
    def size(self) -> ModelSize | None:
        """Of its students, where the table tells it and the space leaves them alone."""
        if any(path.split(".")[0] == "student" and path != "student.norm" for path in self.variant.space):
            return None
        return size_in(self.variant.run.student, self.variant.run.data)


@dataclass(frozen=True)
class Plan:
    """Everything an experiment will run."""

    spec: ExperimentSpec
    arms: tuple[Arm, ...]
    teachers: Mapping[str, TeacherRun]
    """Stage 0, by key: every network that has to be trained or found, each after those it learns from."""
    found: frozenset[str] = frozenset()
    """Keys of the teachers that are there already, and that no trial is run for."""

    def finding(self, records: Mapping[str, Record], stored: Callable[[str], bool]) -> Plan:
        """This plan, aware of the teachers that were found again; `stored` tells whether a key's weights exist.

        A teacher with a record is this experiment's own, trained or in training, and counts as a trial. One
        whose students have all ended counts as found, even where its weights have been deleted since.
        """
        own = {record.trial.variant for record in records.values() if record.trial.phase is Phase.TEACHER}
        wanting = self.teachers_wanting(self.unfinished(records), stored)
        return replace(self, found=frozenset(key for key in self.teachers if key not in own and key not in wanting))

    def unfinished(self, records: Mapping[str, Record]) -> list[Arm]:
        """The arms that have students left to run."""
        past = outdated(records, self.spec.search)
        ended = Counter(r.trial.variant for id, r in records.items() if r.status.ended and id not in past)
        return [arm for arm in self.arms if ended[arm.name] < arm.count + self.finals(arm)]

    def teachers_wanting(self, arms: Iterable[Arm], stored: Callable[[str], bool]) -> list[str]:
        """Keys of the stage-0 runs that the arms need and that are not there, each after those it needs itself."""
        wanting = {key for arm in arms for key in arm.teacher_keys if not stored(key)}
        for key, teacher in reversed(list(self.teachers.items())):
            if key in wanting:
                wanting.update(before for before in teacher.after if not stored(before))
        return [key for key in self.teachers if key in wanting]

    @cached_property
    def by_name(self) -> dict[str, Arm]:
        return {arm.name: arm for arm in self.arms}

    @property
    def search_trials(self) -> int:
        return sum(arm.count for arm in self.arms)

    @property
    def final_trials(self) -> int:
        return sum(self.finals(arm) for arm in self.arms)

    @property
    def total_trials(self) -> int:
        return len(self.teachers) - len(self.found) + self.search_trials + self.final_trials

    @property
    def student_epochs(self) -> int:
        """Epochs of all students, if none is stopped early; a searched number counts at its largest."""
        return sum(arm.max_epochs * (arm.count + self.finals(arm)) for arm in self.arms)

    def finals(self, arm: Arm) -> int:
        """The arm's final runs, if as many trials as are to be repeated have a result."""
        return self.spec.search.final_seeds * min(self.spec.search.final_configs, arm.count)

    def run_of(self, trial: Trial, params: Mapping[str, Any] | None = None) -> RunSpec:
        """The resolved spec of a trial; raises pydantic.ValidationError for values that do not fit.

        `params` are its values now, where they are others than it began with.
        """
        if trial.phase is Phase.TEACHER:
            return self.teachers[trial.variant].run
        variant = self.by_name[trial.variant].variant
        return variant.run.with_values({**(trial.params if params is None else params), "seed": trial.seed})

    def changing(self, trial: Trial) -> list[str]:
        """Dotted paths of what may get other values while the trial trains."""
        if trial.phase is Phase.TEACHER or not isinstance(self.spec.search.scheduler, PopulationScheduler):
            return []
        return list(self.by_name[trial.variant].variant.space)

    def sources_of(self, trial: Trial) -> tuple[Source, ...]:
        """Networks that a trial learns from."""
        if trial.phase is Phase.TEACHER:
            return self.teachers[trial.variant].sources
        return self.by_name[trial.variant].sources

    @property
    def checkpoints(self) -> list[str]:
        """What the spec names as teachers instead of training them, each once."""
        learners: list[Arm | TeacherRun] = [*self.arms, *self.teachers.values()]
        named = (source.checkpoint for learner in learners for source in learner.sources)
        return list(dict.fromkeys(checkpoint for checkpoint in named if checkpoint is not None))

    def distils(self, trial: Trial) -> bool:
        """Whether a trial trains its run's student, and not a teacher on labels."""
        return trial.phase is not Phase.TEACHER or self.teachers[trial.variant].trains_student

    def teacher_trial(self, key: str) -> Trial:
        teacher = self.teachers[key]
        kind = ASSISTANT if teacher.trains_student else "teacher"
        return Trial(f"{kind}-{key[:8]}", Phase.TEACHER, key, 0, teacher.run.seed)

    def search_id(self, arm: Arm, index: int) -> str:
        """Id of the arm's search trial of this number."""
        return f"{arm.name}-{index:03d}"

    def search_trial(self, arm: Arm, index: int, params: Mapping[str, Any]) -> Trial:
        """All search trials have the experiment's seed, so that they differ in their values alone."""
        repeats = self.spec.search.samples if self.spec.search.method == "grid" else 1
        repeat = index // max(arm.count // repeats, 1) if arm.variant.space else 0
        seed = self.spec.seed + (GRID_REPEAT_SEED + repeat if repeat else 0)
        return Trial(self.search_id(arm, index), Phase.SEARCH, arm.name, index, seed, dict(params))

    def final_trial(
        self,
        arm: Arm,
        index: int,
        params: Mapping[str, Any],
        changes: tuple[Change, ...] = (),
        repeats: Trial | None = None,
        *,
        apart: bool = False,
    ) -> Trial:
        """Final runs have fresh seeds, the same ones in every variant and for every configuration.

        `repeats` is the search trial whose configuration this is; `apart` tells that it is not the variant's first
        one, so that its id has to say which.
        """
        return Trial(
            # No variant has an @ in its name.
            f"{arm.name}-final-{index + 1}" + (f"@{repeats.index:03d}" if repeats and apart else ""),
            Phase.FINAL,
            arm.name,
            index,
            self.spec.seed + 1 + index,
            dict(params),
            changes,
            repeats.id if repeats else None,
        )

    def concurrency(self, machine: Machine) -> int:
        """Trials that run at once on the machine; raises `ResourceError` where not even one fits."""
        resources = self.spec.resources
        low, high = resources.workers
        there = machine.workers(resources.cpus_per_worker, resources.gpus_per_worker, resources.custom_resources)
        if there < low:
            raise ResourceError(
                _no_place(resources, machine, there),
                hint=f"lower {'' if low == 1 else 'resources.num_workers, '}resources.cpus_per_worker or "
                "gpus_per_worker, or join a larger cluster with --address",
            )
        places = int(there * resources.share + 1e-9)
        # An elastic trial takes all that it may, of others' share too.
        if resources.share < 1 and places < high:
            raise ResourceError(
                f"resources.share: {resources.share:g} of the places for {there} workers is {places}, "
                f"but a trial takes up to {high}",
                hint="raise resources.share, or lower resources.num_workers",
            )
        # An elastic trial is given all that it may take, so that none has to wait for another's workers.
        fit = max(1, places // high)
        return min(fit, resources.max_concurrent_trials or fit)

    def fit(self, machine: Machine) -> tuple[int | None, str | None]:
        """How many trials run at once on the machine; or None, and why not even one does."""
        try:
            return self.concurrency(machine), None
        except ResourceError as error:
            return None, error.message

    @property
    def uneven(self) -> list[str]:
        """Models whose batch norms see one worker's part of a batch, so that their results depend on the workers."""
        return [] if self.spec.resources.workers[1] == 1 else self.batch_norms

    @property
    def batch_norms(self) -> list[str]:
        """Models that have norms over a batch."""
        networks = [teacher.network for key, teacher in self.teachers.items() if key not in self.found]
        networks += [arm.variant.run.student for arm in self.arms]
        return list(dict.fromkeys(network.model for network in networks if network and network.norm == "batch"))

    def to_dict(self, machine: Machine) -> dict[str, Any]:
        """The plan as JSON-like data."""
        spec = self.spec
        concurrent, too_small = self.fit(machine)
        return {
            "name": spec.name,
            "hash": spec.hash,
            "teachers": [
                {
                    "key": key,
                    "model": teacher.model,
                    **_sizes(teacher.size),
                    "epochs": teacher.training.epochs,
                    "after": teacher.after,
                    "found": key in self.found,
                }
                for key, teacher in self.teachers.items()
            ],
            "variants": [
                {
                    "name": arm.name,
                    **_sizes(arm.size),
                    "set": {} if arm.name not in spec.search.variants else spec.search.variants[arm.name].set,
                    "space": {path: domain.model_dump() for path, domain in arm.variant.space.items()},
                    "trials": arm.count,
                    "epochs_per_trial": arm.max_epochs,
                    "points": None if arm.points is None else [dict(point) for point in arm.points],
                    "first_points": [dict(point) for point in arm.first],
                }
                for arm in self.arms
            ],
            "search_trials": self.search_trials,
            "final_trials": self.final_trials,
            "total_trials": self.total_trials,
            "student_epochs": self.student_epochs,
            "resources_per_trial": spec.resources.model_dump(exclude={"max_concurrent_trials"}),
            "concurrent_trials": concurrent,
            "does_not_fit": too_small,
            "results_depend_on_workers": self.uneven,
        }


def make_plan(spec: ExperimentSpec) -> Plan:
    """Expand a checked spec."""
    arms = []
    teachers: dict[str, TeacherRun] = {}
    for variant in variants(spec):
        points = _points(variant, spec)
        count = spec.search.samples if points is None else len(points)
        needed = teaching(variant.run)
        for key, teacher in needed.runs.items():
            teachers.setdefault(key, teacher)
        arms.append(Arm(variant, count, points, tuple(first_points(variant, spec.seed)), needed.sources))
    return Plan(spec, tuple(arms), teachers)


def _points(variant: Variant, spec: ExperimentSpec) -> tuple[Mapping[str, Any], ...] | None:
    search = spec.search
    if not variant.space:
        return ({},)
    if search.method == "grid":
        return tuple(grid_points(variant, search.samples))
    if search.method == "random":
        return tuple(random_points(variant, search.samples, spec.seed))
    return None


def _sizes(size: ModelSize | None) -> dict[str, int | None]:
    return {"parameters": size and size.parameters, "multiply_adds": size and size.flops}


def _no_place(resources: ResourcesSpec, machine: Machine, places: int) -> str:
    """Why not one trial fits."""
    needs = amounts(resources.cpus_per_worker, resources.gpus_per_worker)
    nodes = machine.nodes or (machine,)
    there = amounts(machine.cpus, machine.gpus, always=bool(resources.gpus_per_worker))
    if len(nodes) > 1:
        each = ", ".join(amounts(node.cpus, node.gpus, always=bool(resources.gpus_per_worker)) for node in nodes)
        there = f"nodes of {each}"
    for name, amount in resources.custom_resources.items():
        needs += f" and {amount:g} {name}"
        there += f" and {sum((node.custom or {}).get(name, 0) for node in nodes):g} {name}"
    if resources.workers[0] == 1:
        return f"a trial needs {needs} (resources.cpus_per_worker, gpus_per_worker), but there are only {there}"
    return (
        f"a trial needs {resources.workers[0]} workers (resources.num_workers) of {needs} each, "
        f"but there are places for {places}: {there}"
    )


def amounts(cpus: float, gpus: float, *, always: bool = False) -> str:
    """In words; GPUs where there are any, or `always`."""
    text = f"{cpus:g} CPU{'s' if cpus != 1 else ''}"
    return text + (f" and {gpus:g} GPU{'s' if gpus != 1 else ''}" if gpus or always else "")
