"""Which runs of an experiment read the teacher's logits from the shared store, and what that takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from orchestrator.catalog import DATASET_FACTS
from orchestrator.errors import ResourceError
from orchestrator.search.plan import Plan
from orchestrator.search.teachers import Source
from orchestrator.search.trials import Trial
from orchestrator.spec.experiment import RunSpec, digest
from orchestrator.spec.scheme import Ensemble, Mutual

GB = 10**9
ITEM_BYTES = {"float16": 2, "float32": 4}
_ALONE = "no other run has the same augmentations"


@dataclass(frozen=True)
class Keeping:
    """Where one run has its teacher's logits from; plain data, which travels with the trial."""

    stored: bool
    why: str
    """Of what was chosen, as a phrase."""
    dtype: str = "float16"
    forced: bool = False
    """Whether the spec asks for the store."""
    views: int = 0
    """Of all runs that share them."""
    limit: float = 0
    """Bytes that the spec allowed them when the experiment began."""
    room: float = math.inf
    """Bytes that the stores of all experiments may take now."""

    def __str__(self) -> str:
        return f"stored as {self.dtype}" if self.stored else f"live: {self.why}"


class _Set(NamedTuple):
    """Logits that runs share: those of one teacher, data set and augmentation, under one seed."""

    content: str
    seed: int | None
    """None where the views do not depend on it."""

    @property
    def name(self) -> str:
        return self.content if self.seed is None else f"{self.content}, seed {self.seed}"


@dataclass(frozen=True)
class _Use:
    """What runs make of a set."""

    runs: int
    views: int
    row: int | None
    """Bytes of one view; None where the number of images or classes is not known."""
    keeping: Keeping

    @property
    def size(self) -> int | None:
        return None if self.row is None else self.row * self.views


@dataclass(frozen=True)
class LogitPlan:
    """Of every run that distils from logits, where it has them from."""

    _plan: Plan
    _uses: Mapping[_Set, _Use]

    def of(self, trial: Trial, run: RunSpec) -> Keeping | None:
        """What holds for a trial and its resolved run; None without a teacher."""
        keeping = _settled(run) if self._plan.distils(trial) else None
        if keeping is None or not keeping.stored:
            return keeping
        use = self._uses.get(_set_of(run, self._plan.sources_of(trial), trial.seed))
        if use is not None:
            return use.keeping
        # Values of the search that give this run an augmentation of its own.
        return replace(keeping, limit=self._limit) if keeping.forced else replace(keeping, stored=False, why=_ALONE)

    def shared(self, run: RunSpec, sources: Sequence[Source], seed: int) -> tuple[str, Keeping] | None:
        """The set of stored logits that runs of a seed share, by its name, and how it is kept; None without one."""
        which = _set_of(run, sources, seed)
        use = self._uses.get(which)
        return (which.name, use.keeping) if use is not None and use.keeping.stored else None

    @property
    def _limit(self) -> float:
        return self._plan.spec.resources.teacher_logits_gb * GB

    @property
    def stored_bytes(self) -> int | None:
        """What the store will take at most; None where that is not known."""
        sizes = [use.size for use in self._uses.values() if use.keeping.stored]
        return None if any(size is None for size in sizes) else sum(size or 0 for size in sizes)

    @property
    def decisions(self) -> dict[str, dict[str, Any]]:
        """JSON-like, what `plan_logits` takes as `decided`: other machines and limits would decide otherwise."""
        kept = ("stored", "why", "limit")
        return {which.name: {name: getattr(use.keeping, name) for name in kept} for which, use in self._uses.items()}

    def to_dict(self) -> dict[str, Any]:
        """As JSON-like data."""
        stored = [use for use in self._uses.values() if use.keeping.stored]
        return {
            "stored_runs": sum(use.runs for use in stored),
            "stored_views": sum(use.views for use in stored),
            "stored_bytes": self.stored_bytes,
            "live_runs": self._live(),
        }

    def lines(self) -> list[str]:
        """What `plan` tells."""
        data = self.to_dict()
        lines = []
        if data["stored_runs"]:
            bytes_ = self.stored_bytes
            size = "of a size that the data set will tell" if bytes_ is None else f"{_size(bytes_)} at most"
            dtypes = " and ".join(sorted({use.keeping.dtype for use in self._uses.values() if use.keeping.stored}))
            lines.append(
                f"Teacher logits: stored as {dtypes} and shared by {data['stored_runs']} runs, "
                f"{data['stored_views']} views, {size}"
            )
        lines += [f"Teacher logits: live in {runs} run{'s' * (runs > 1)}: {why}" for why, runs in self._live().items()]
        return lines

    def _live(self) -> dict[str, int]:
        live: dict[str, int] = {}
        for use in self._uses.values():
            if not use.keeping.stored:
                live[use.keeping.why] = live.get(use.keeping.why, 0) + use.runs
        return live


def plan_logits(plan: Plan, room: float, decided: Mapping[str, Mapping[str, Any]] | None = None) -> LogitPlan:
    """Decide for every run; `room` is what the store may take beside the spec's own limit, in bytes.

    `decided` are the `decisions` of an experiment's first session, which all others keep to: the runs that it compares
    shall all have the teacher's logits in one way. Where room has gone since, views are computed that cannot be kept.

    Runs share a set's views; a set that only one run needs is worth no file. Those that most runs share come first.
    Raises `ResourceError` where the spec asks for the store and that does not fit.
    """
    limit = plan.spec.resources.teacher_logits_gb * GB
    uses: dict[_Set, _Use] = {}
    for learner in _learners(plan):
        keeping = _settled(learner.run)
        if keeping is None:
            continue
        which = _set_of(learner.run, learner.sources, learner.seed)
        use = _Use(learner.runs, _views(learner.run, learner.epochs), _row(learner.run), replace(keeping, limit=limit))
        if (old := uses.get(which)) is not None:
            use = replace(use, runs=old.runs + use.runs, views=max(old.views, use.views))
        uses[which] = use
    left = room = min(limit, room)
    for which, use in sorted(uses.items(), key=lambda item: (not item[1].keeping.forced, -item[1].runs)):
        earlier = (decided or {}).get(which.name)
        if earlier is not None and use.keeping.stored and not use.keeping.forced:
            keeping = replace(use.keeping, **earlier)
        else:
            keeping = _decided(use, left, room < limit)
        uses[which] = replace(use, keeping=replace(keeping, views=use.views, room=room))
        if uses[which].keeping.stored:
            left -= use.size or 0
    return LogitPlan(plan, uses)


def _decided(use: _Use, left: float, short_of_disk: bool) -> Keeping:
    keeping, size = use.keeping, use.size or 0
    if not keeping.stored:
        return keeping
    if size <= left:
        return keeping if keeping.forced or use.runs > 1 else replace(keeping, stored=False, why=_ALONE)
    where = "for which the disk has no room" if short_of_disk else "which resources.teacher_logits_gb does not allow"
    why = f"{_size(size)} for {use.views} views, {where}"
    if keeping.forced:
        raise ResourceError(
            f"distillation.teacher_logits.keep is stored: {why}",
            hint="allow more, set data.views, or set keep to auto",
        )
    return replace(keeping, stored=False, why=why)


class _Learner(NamedTuple):
    run: RunSpec
    sources: Sequence[Source]
    seed: int
    epochs: int
    runs: int


def _learners(plan: Plan) -> Iterator[_Learner]:
    """All runs that learn from a teacher, alike ones together."""
    for teacher in plan.teachers.values():
        if teacher.trains_student:
            yield _Learner(teacher.run, teacher.sources, teacher.run.seed, teacher.training.epochs, 1)
    for arm in plan.arms:
        if any(path.startswith(("data.augmentation", "training.precision")) for path in arm.variant.space):
            continue
        seeds = Counter(plan.search_trial(arm, index, {}).seed for index in range(arm.count))
        fresh = [plan.final_trial(arm, index, {}).seed for index in range(plan.spec.search.final_seeds)]
        seeds.update(fresh * (plan.finals(arm) // max(1, len(fresh))))
        for seed, runs in seeds.items():
            yield _Learner(arm.variant.run, arm.sources, seed, arm.max_epochs, runs)


def _settled(run: RunSpec) -> Keeping | None:
    """What the run itself says, before it is known what others share; None without a teacher."""
    asked = run.distillation.teacher_logits
    if not run.needs_teacher or isinstance(run.scheme, Mutual):
        return None
    if run.distillation.features:
        return Keeping(False, "feature losses run the teacher in every step")
    if asked.keep == "live":
        return Keeping(False, "asked for")
    forced = asked.keep == "stored"
    return Keeping(True, "asked for" if forced else "several runs share them", asked.dtype, forced)


def _set_of(run: RunSpec, sources: Sequence[Source], seed: int) -> _Set:
    data = run.data
    content = digest(
        {
            "teachers": [source.key or source.model.model_dump() for source in sources],
            "average": run.scheme.average if isinstance(run.scheme, Ensemble) else None,
            "source": data.source,
            "data": data.model_dump(include={"validation_fraction", "train_samples", "augmentation", "views"}),
            "precision": run.training.precision,
            "dtype": run.distillation.teacher_logits.dtype,
        }
    )
    return _Set(content, None if data.augmentation == "none" or data.views is not None else seed)


def _views(run: RunSpec, epochs: int) -> int:
    if run.data.augmentation == "none":
        return 1
    return epochs if run.data.views is None else min(run.data.views, epochs)


def _row(run: RunSpec) -> int | None:
    images, facts = run.data.training_images(), DATASET_FACTS.get(run.data.dataset)
    classes = len(run.data.classes or ()) or (facts and facts.classes)
    return images * classes * ITEM_BYTES[run.distillation.teacher_logits.dtype] if images and classes else None


def _size(count: float) -> str:
    """Bytes with two or three digits."""
    power = min(3, max(1, int(math.log10(max(count, 1)) // 3)))
    return f"{count / 1000**power:.3g} {' kMG'[power]}B"
