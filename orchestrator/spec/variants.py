"""Variants: the spec's arms, each a run with values fixed and a space of its own; and their checks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from orchestrator.errors import Problem
from orchestrator.spec.experiment import ExperimentSpec, RunSpec, assign
from orchestrator.spec.problems import Lines, problems_of
from orchestrator.spec.search import SEARCHED_SECTIONS, VARIANT_SECTIONS, Constraint, Domain, VariantSpec

DEFAULT_VARIANT = "default"
MAX_CORNERS = 256
"""Combinations of the ends of all domains up to which every one is checked."""


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

    def repaired(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The drawn point, moved where it breaks a constraint."""
        result = dict(point)
        for constraint in self.constraints:
            result = constraint.repair(result, {**flatten(self.run.model_dump()), **result})
        return result

    def keeps_constraints(self, point: Mapping[str, Any]) -> bool:
        values = {**flatten(self.run.model_dump()), **point}
        return all(constraint.holds(values) for constraint in self.constraints)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping of dotted paths to plain values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
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
    run = spec.run_spec.with_values(arm.set)
    space = {**spec.search.space, **arm.space}
    known = {*flatten(run.model_dump()), *space}
    constraints = [Constraint(text) for text in spec.search.constraints]
    return Variant(name, run, space, tuple(c for c in constraints if known.issuperset(c.paths)))


def check_search(spec: ExperimentSpec, lines: Lines) -> list[Problem]:
    """Problems of variants, domains and constraints: paths, values at both ends, rules between them."""
    found: list[Problem] = []
    used: set[str] = set()
    shared = _placed("search.space", spec.search.space, SEARCHED_SECTIONS, found)
    spec = spec.model_copy(update={"search": spec.search.model_copy(update={"space": shared})})
    for name, given in variant_specs(spec).items():
        where = f"search.variants.{name}"
        arm = VariantSpec.model_construct(
            set=_placed(f"{where}.set", given.set, VARIANT_SECTIONS, found),
            space=_placed(f"{where}.space", given.space, SEARCHED_SECTIONS, found),
        )
        tree = assign(spec.run_spec.model_dump(exclude_unset=True), arm.set)
        try:
            variant = _variant(spec, name, arm)
        except ValidationError as error:
            found += [_relocated(p, f"{where}.set", arm.set) for p in problems_of(error, RunSpec, tree)]
            continue
        used |= {constraint.text for constraint in variant.constraints}
        found += _check_space(variant, arm, tree)
    if not found:
        found += [
            Problem("search.constraints", "names a field that no variant has", text, True)
            for text in spec.search.constraints
            if text not in used
        ]
    return [_with_line(problem, lines) for i, problem in enumerate(found) if problem not in found[:i]]


V = TypeVar("V")


def _placed(
    where: str, paths: Mapping[str, V], sections: tuple[str, ...], found: list[Problem]
) -> dict[str, V]:
    """The paths that may stand here; the others become problems."""
    placed = {path: value for path, value in paths.items() if path.split(".")[0] in sections}
    for path in paths.keys() - placed.keys():
        found.append(Problem(f"{where}.{path}", f"must begin with one of: {', '.join(sections)}"))
    return placed


def _check_space(variant: Variant, arm: VariantSpec, tree: dict[str, Any]) -> list[Problem]:
    """Validate the run at the ends of its domains; one problem a domain and field."""
    found: dict[tuple[str, str], Problem] = {}
    for corner in _corners(variant.space):
        try:
            point = variant.repaired(corner)
            variant.run.with_values(point)
        except ValidationError as error:
            for problem in problems_of(error, RunSpec, assign(tree, corner)):
                path = next((p for p in point if problem.path == p or problem.path.startswith(f"{p}.")), None)
                path = path or next(iter(point))
                found.setdefault((path, problem.path), _domain_problem(variant, arm, path, point, problem))
        except TypeError:
            path = next(iter(corner))
            found.setdefault((path, ""), Problem("search.constraints", f"cannot compare values in {variant.name}"))
    return list(found.values())


def _domain_problem(
    variant: Variant, arm: VariantSpec, path: str, point: Mapping[str, Any], problem: Problem
) -> Problem:
    where = f"search.variants.{variant.name}.space" if path in arm.space else "search.space"
    section = path.rpartition(".")[0]
    values = ", ".join(f"{p} = {v}" for p, v in point.items() if p == path or p.startswith(f"{section}."))
    if problem.rule == "unknown key":
        return Problem(
            f"{where}.{path}",
            f"variant {variant.name!r} has no such field",
            hint=problem.hint if path in arm.space else f"{problem.hint}; or give it in the variants that have it",
        )
    others = sum(p.startswith(f"{section}.") for p in point) > 1
    hint = "narrow the domain" + (", or add a rule under search.constraints" if others else "")
    return Problem(
        f"{where}.{path}", f"reaches a value that is not valid: with {values}, {problem.path} {problem.rule}", hint=hint
    )


def _corners(space: Mapping[str, Domain]) -> Iterator[dict[str, Any]]:
    """Points at the ends of the domains: all combinations, or where they are many, those of one section."""
    ends = {path: domain.extremes for path, domain in space.items()}
    if math.prod(len(values) for values in ends.values()) <= MAX_CORNERS:
        yield from (dict(zip(ends, values, strict=True)) for values in itertools.product(*ends.values()) if ends)
        return
    first = {path: values[0] for path, values in ends.items()}
    sections = itertools.groupby(sorted(ends), key=lambda path: path.rpartition(".")[0])
    for _, paths in sections:
        group = list(paths)
        for values in itertools.islice(itertools.product(*(ends[path] for path in group)), 16 * MAX_CORNERS):
            yield {**first, **dict(zip(group, values, strict=True))}


def _relocated(problem: Problem, where: str, keys: Mapping[str, Any]) -> Problem:
    inside = any(problem.path == key or problem.path.startswith(f"{key}.") for key in keys)
    path = f"{where}.{problem.path}" if inside else where
    rule = problem.rule if inside else f"{problem.path} {problem.rule}"
    return Problem(path, rule, problem.value, problem.has_value, problem.hint)


def _with_line(problem: Problem, lines: Lines) -> Problem:
    """Find the line by the longest key of the file that the problem's path starts with."""
    best: tuple[int, int] | None = None
    for loc, line in lines.items():
        path = ".".join(str(part) for part in loc)
        if problem.path == path or problem.path.startswith(f"{path}."):
            best = max(best or (0, 0), (len(path), line))
    return Problem(
        problem.path, problem.rule, problem.value, problem.has_value, problem.hint, best[1] if best else None
    )
