"""Variants: the spec's arms, each a run with values fixed and a space of its own; and their checks."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError

from orchestrator.errors import Problem
from orchestrator.registry import nearest
from orchestrator.spec.constraints import Constraint
from orchestrator.spec.distillation import IDLE, LOGIT_FIELDS
from orchestrator.spec.domains import Choice, Domain, draw
from orchestrator.spec.experiment import ExperimentSpec, RunSpec, assign
from orchestrator.spec.problems import NOT_A_LIST, Lines, line_of, problems_of
from orchestrator.spec.samplers import OptunaSampler
from orchestrator.spec.schedulers import PopulationScheduler
from orchestrator.spec.search import SEARCHED_SECTIONS, VARIANT_SECTIONS, SearchSpec, VariantSpec

DEFAULT_VARIANT = "default"
MAX_CORNERS = 256
"""Combinations of the ends of all domains up to which every one is checked."""
MAX_GRID = 10_000
"""Trials of one variant's grid, repeats included."""


@dataclass(frozen=True)
class Variant:
    """One arm of the comparison."""

    name: str
    run: RunSpec
    """The run with the variant's own values set."""
    space: Mapping[str, Domain]
    """Dotted path: domain; the shared space and the variant's own."""
    constraints: tuple[Constraint, ...]
    """Those of the spec whose paths this variant has."""
    points: tuple[Mapping[str, Any], ...] = ()
    """What is to be tried first, as far as it is given."""

    def drawn(self, number: int, seed: int, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A point of the space; what is not given is drawn, by the seed, the path and the number alone."""
        known = given or {}
        return self.repaired(
            {
                path: known[path] if path in known else draw(domain, random.Random(f"{seed}/{path}/{number}"))
                for path, domain in self.space.items()
            }
        )

    def repaired(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The drawn point, moved where it breaks a constraint."""
        result = dict(point)
        # As often as there are constraints, as keeping one may break another.
        for constraint in self.constraints * len(self.constraints):
            result = constraint.repair(result, self.values_at(result))
        return result

    def keeps_constraints(self, point: Mapping[str, Any]) -> bool:
        values = self.values_at(point) if self.constraints else {}
        return all(constraint.holds(values) for constraint in self.constraints)

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every combination of the space's values that keeps the constraints."""
        axes = [domain.grid for domain in self.space.values()]
        points = (dict(zip(self.space, values, strict=True)) for values in itertools.product(*axes))
        return filter(self.keeps_constraints, points)

    def values_at(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The run's fields at a point, by dotted path."""
        return flatten(assign(self._fixed, point))

    @cached_property
    def _fixed(self) -> dict[str, Any]:
        return self.run.model_dump()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings, and lists of mappings by their items' numbers, as one mapping of dotted paths to values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{path}."))
        else:
            flat[path] = value
    return flat


def variant_specs(spec: ExperimentSpec) -> dict[str, VariantSpec]:
    """The spec's variants by name; without any, the spec's own values as one."""
    return dict(spec.search.variants) or {DEFAULT_VARIANT: VariantSpec()}


def variants(spec: ExperimentSpec) -> list[Variant]:
    """Every arm of a checked spec, in the order of the file."""
    return [_variant(spec, name, arm) for name, arm in variant_specs(spec).items()]


def _variant(spec: ExperimentSpec, name: str, arm: VariantSpec) -> Variant:
    run = RunSpec.model_validate(spec.run_content(arm.set))
    shared = {path: domain for path, domain in spec.search.space.items() if path not in arm.set}
    space = {**shared, **arm.space}
    chosen = (flatten({path: value}) for path, domain in space.items() for value in domain.extremes)
    known = {*flatten(run.model_dump()), *space}.union(*chosen)
    constraints = [Constraint(text) for text in spec.search.constraints]
    own = ({path: value for path, value in point.items() if path in space} for point in spec.search.points)
    points = (*filter(None, own), *arm.points)
    return Variant(name, run, space, tuple(c for c in constraints if known.issuperset(c.paths)), points)


def check_search(spec: ExperimentSpec, lines: Lines) -> list[Problem]:
    """Problems of variants, domains and constraints: paths, values at both ends, rules between them."""
    found: list[Problem] = []
    misfits: list[_Misfit] = []
    checked: list[Variant] = []
    shared = _placed("search.space", spec.search.space, SEARCHED_SECTIONS, found)
    spec = spec.model_copy(update={"search": spec.search.model_copy(update={"space": shared})})
    for name, given in variant_specs(spec).items():
        where = f"search.variants.{name}"
        arm = VariantSpec.model_construct(
            set=_placed(f"{where}.set", given.set, VARIANT_SECTIONS, found),
            space=_placed(f"{where}.space", given.space, SEARCHED_SECTIONS, found),
            points=given.points,
        )
        found += [
            Problem(f"{where}.space.{path}", "is both set and searched in this variant", hint="remove one")
            for path in arm.space
            if path in arm.set
        ]
        tree = spec.run_content(arm.set)
        try:
            variant = _variant(spec, name, arm)
        except ValidationError as error:
            found += [_relocated(p, f"{where}.set", arm.set) for p in problems_of(error, RunSpec, tree)]
            continue
        checked.append(variant)
        if spec.search.method == "grid" and variant.space:
            found += _check_grid(variant, arm, spec.search)
        found += _check_sampler(variant, spec.search)
        found += _check_population(variant, spec.search)
        found += _check_space(variant, arm, tree, misfits, repair=spec.search.method != "grid")
    found += _told(misfits, checked)
    found += _idle(spec, checked)
    if not found:
        used = {constraint.text for variant in checked for constraint in variant.constraints}
        found += [
            Problem("search.constraints", "names a field that no variant has", text, True)
            for text in spec.search.constraints
            if text not in used
        ]
    distinct = [problem for i, problem in enumerate(found) if problem not in found[:i]]
    placed = [replace(problem, line=line_of(problem.path, lines)) for problem in distinct]
    return sorted(placed, key=lambda problem: problem.line or 0)


def _idle(spec: ExperimentSpec, checked: Sequence[Variant]) -> list[Problem]:
    """What is given of the logit loss where `kd_weight` is 0; a variant without that loss may inherit it."""
    alone = [
        variant
        for variant in checked
        if variant.run.distillation.kd_weight == 0
        and not {"distillation", "distillation.kd_weight"}.intersection(variant.space)
    ]
    acting = [f"distillation.{name}" for name in LOGIT_FIELDS]

    def under(paths: Iterable[str]) -> list[str]:
        return [path for path in paths if any(f"{path}.".startswith(f"{name}.") for name in acting)]

    found: list[str] = []
    for variant in alone:
        arm, where = variant_specs(spec)[variant.name], f"search.variants.{variant.name}"
        idle = [f"distillation.{name}" for name in variant.run.distillation.idle]
        found += [
            f"{where}.set.{name}" for name in idle if any(f"{p}.".startswith(f"{name}.") for p in flatten(arm.set))
        ]
        found += [f"{where}.space.{path}" for path in under(arm.space)]
    if len(alone) == len(checked):
        found += [f"distillation.{name}" for name in spec.distillation.idle]
        found += [f"search.space.{path}" for path in under(spec.search.space)]
    return [Problem(path, IDLE) for path in found]


V = TypeVar("V")


def _placed(where: str, paths: Mapping[str, V], sections: tuple[str, ...], found: list[Problem]) -> dict[str, V]:
    """The paths that may stand here; the others become problems."""
    placed = {
        path: value for path, value in paths.items() if any(f"{path}.".startswith(f"{name}.") for name in sections)
    }
    for path in paths:
        if path not in placed:
            close = nearest(path.split(".")[0], sections)
            hint = f"did you mean {close!r}?" if close else None
            found.append(Problem(f"{where}.{path}", f"must begin with one of: {', '.join(sections)}", hint=hint))
    return placed


def _check_grid(variant: Variant, arm: VariantSpec, search: SearchSpec) -> list[Problem]:
    """Refuse a grid of too many points, or of none."""
    where = f"search.variants.{variant.name}.space" if arm.space else "search.space"
    count = math.prod(domain.size or 0 for domain in variant.space.values()) * search.samples
    if count > MAX_GRID:
        return [Problem(where, f"makes {count} trials of variant {variant.name!r}; a grid may have {MAX_GRID}")]
    with contextlib.suppress(TypeError):
        if next(variant.grid(), None) is None:
            return [Problem("search.constraints", f"leaves no point of the grid of variant {variant.name!r}")]
    return []


def _check_sampler(variant: Variant, search: SearchSpec) -> list[Problem]:
    """Refuse a space that the sampler has no model of."""
    sampling = search.sampling
    numbers = sum(not isinstance(domain, Choice) for domain in variant.space.values())
    if variant.space and isinstance(sampling, OptunaSampler) and sampling.algorithm == "cmaes" and numbers < 2:
        rule = f"needs two or more numbers to search, and variant {variant.name!r} has {numbers}"
        return [Problem("search.sampler.algorithm", rule, "cmaes", True, hint="use tpe or gp, or add a number")]
    return []


def _check_population(variant: Variant, search: SearchSpec) -> list[Problem]:
    """Refuse a population that is never compared."""
    scheduler, epochs = search.scheduler, variant.run.training.epochs
    if not isinstance(scheduler, PopulationScheduler) or not variant.space:
        return []
    found = []
    if (interval := scheduler.interval(epochs)) >= epochs:
        rule = f"must be below training.epochs ({epochs}) of variant {variant.name!r}, or nothing is ever compared"
        found.append(Problem("search.scheduler.perturbation_interval", rule, interval, True))
    points = math.prod(domain.size or 0 for domain in variant.space.values()) if search.method == "grid" else 1
    if points * search.samples < 2:
        rule = (
            f"must give variant {variant.name!r} two trials or more: {scheduler.method} compares them with each other"
        )
        found.append(Problem("search.num_samples", rule, search.samples, True))
    return found


def _check_space(
    variant: Variant, arm: VariantSpec, tree: dict[str, Any], misfits: list[_Misfit], *, repair: bool
) -> list[Problem]:
    """Validate the run at the ends of its domains; one problem, or one more misfit, for a domain and field."""
    found: dict[tuple[str, str], Problem] = {}
    unfit: dict[tuple[str, str], _Misfit] = {}
    for corner in _corners(variant.space):
        try:
            point = variant.repaired(corner) if repair else corner
            if not variant.keeps_constraints(point):
                if repair or not variant.space:
                    found.setdefault(("", ""), _constraint_problem(variant, point))
                continue
            variant.run.with_values(point)
        except ValidationError as error:
            for problem in problems_of(error, RunSpec, assign(tree, corner)):
                path = next((p for p in point if problem.path == p or problem.path.startswith(f"{p}.")), None)
                path = path or next((p for p in point if _lacks_item(problem, p)), None)
                path = path or next(iter(point))
                unfit.setdefault((path, problem.path), _Misfit(variant.name, path in arm.space, path, point, problem))
        except TypeError:
            found.setdefault(("", ""), Problem("search.constraints", f"cannot compare values in {variant.name}"))
        else:
            for path in (path for path, domain in variant.space.items() if not domain.holds(point[path])):
                found.setdefault((path, ""), _moved_problem(arm, variant, path, point))
    misfits += unfit.values()
    return list(found.values())


def _constraint_problem(variant: Variant, point: Mapping[str, Any]) -> Problem:
    values = variant.values_at(point)
    broken = next(constraint for constraint in variant.constraints if not constraint.holds(values))
    named = ", ".join(f"{path} = {values[path]}" for path in broken.paths)
    return Problem(
        "search.constraints",
        f"cannot be kept in variant {variant.name!r}: with {named}, {broken.text!r} does not hold",
        hint="no searched value can be moved so that all rules hold; narrow a domain",
    )


def _moved_problem(arm: VariantSpec, variant: Variant, path: str, point: Mapping[str, Any]) -> Problem:
    where = f"search.variants.{variant.name}.space" if path in arm.space else "search.space"
    return Problem(
        f"{where}.{path}",
        f"a rule under search.constraints moves it to {point[path]}, out of its domain",
        hint="widen this domain, or narrow that of the other field",
    )


@dataclass(frozen=True)
class _Misfit:
    """A domain with a value that a variant's run cannot take."""

    variant: str
    own: bool
    """Whether the domain is the variant's, and not of the shared space."""
    path: str
    point: Mapping[str, Any]
    problem: Problem

    @property
    def where(self) -> str:
        return f"search.variants.{self.variant}.space.{self.path}" if self.own else f"search.space.{self.path}"

    def told(self, lacking: Sequence[str]) -> Problem:
        """The misfit as a problem; `lacking` are the variants without such a field, empty where all are."""
        problem = self.problem
        section = self.path.rpartition(".")[0]
        values = ", ".join(f"{p} = {v}" for p, v in self.point.items() if p == self.path or p.startswith(f"{section}."))
        no_item = _lacks_item(problem, self.path)
        unknown = problem.rule == "unknown key" or no_item
        if not unknown or problem.path.startswith(f"{self.path}."):
            rule = f"{problem.path} {'is no field' if unknown else problem.rule}"
            others = sum(p.startswith(f"{section}.") for p in self.point) > 1
            narrow = "narrow the domain" + (", or add a rule under search.constraints" if others else "")
            hint = problem.hint if unknown else narrow
            return Problem(self.where, f"reaches a value that is not valid: with {values}, {rule}", hint=hint)
        if not lacking:
            return Problem(self.where, f"there is no field {self.path if no_item else problem.path}", hint=problem.hint)
        named = f"variant{'s' if len(lacking) > 1 else ''} {', '.join(map(repr, lacking))}"
        rule = f"{named} {'have' if len(lacking) > 1 else 'has'} no such field"
        return Problem(self.where, rule, hint=f"{problem.hint}; or give it in the variants that have it")


def _told(misfits: Sequence[_Misfit], found: Sequence[Variant]) -> list[Problem]:
    """One problem for each domain and what is wrong with it, however many variants share the domain."""
    groups: dict[tuple[str, str, str], list[_Misfit]] = {}
    for misfit in misfits:
        groups.setdefault((misfit.where, misfit.problem.path, misfit.problem.rule), []).append(misfit)
    return [
        first.told([] if first.own or len(names) == sum(first.path in variant.space for variant in found) else names)
        for first, names in ((group[0], [misfit.variant for misfit in group]) for group in groups.values())
    ]


def _lacks_item(problem: Problem, path: str) -> bool:
    """Whether the problem is that `path` names an item of a list that is not there."""
    return problem.rule == NOT_A_LIST and path.startswith(f"{problem.path}.")


def _corners(space: Mapping[str, Domain]) -> Iterator[dict[str, Any]]:
    """Points at the ends of the domains: all combinations, or where they are many, those of one section."""
    ends = {path: domain.extremes for path, domain in space.items()}
    if math.prod(len(values) for values in ends.values()) <= MAX_CORNERS:
        yield from (dict(zip(ends, values, strict=True)) for values in itertools.product(*ends.values()))
        return
    first = {path: values[0] for path, values in ends.items()}
    sections = itertools.groupby(sorted(ends), key=lambda path: path.partition(".")[0])
    for _, paths in sections:
        group = list(paths)
        for values in itertools.islice(itertools.product(*(ends[path] for path in group)), 16 * MAX_CORNERS):
            yield {**first, **dict(zip(group, values, strict=True))}


def _relocated(problem: Problem, where: str, keys: Mapping[str, Any]) -> Problem:
    if any(problem.path == key or problem.path.startswith(f"{key}.") for key in keys):
        return replace(problem, path=f"{where}.{problem.path}")
    below = next((key for key in keys if key.startswith(f"{problem.path}.")), None)
    path = f"{where}.{below}" if below else where
    return replace(problem, path=path, rule=f"{problem.path}: {problem.rule}")
