"""Checks of `search.points`: paths, values within their domains, and what they make of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import Problem
from orchestrator.registry import nearest
from orchestrator.spec.experiment import ExperimentSpec, RunSpec, assign
from orchestrator.spec.problems import Lines, line_of, problems_of
from orchestrator.spec.variants import Variant, variants


def check_points(spec: ExperimentSpec, lines: Lines) -> list[Problem]:
    """Problems of the points that a spec, whose spaces are in order, wants tried first."""
    arms = variants(spec)
    found: list[Problem] = []
    for number, point in enumerate(spec.search.points):
        found += _unknown(f"search.points.{number}", point, arms)
    for arm in arms:
        own = spec.search.variants[arm.name].points if arm.name in spec.search.variants else []
        for number, point in enumerate(own):
            found += _unknown(f"search.variants.{arm.name}.points.{number}", point, [arm])
    if not found:
        found = [problem for arm in arms for problem in _misfits(spec, arm)]
    return [replace(problem, line=line_of(problem.path, lines)) for problem in found]


def _unknown(where: str, point: Mapping[str, Any], arms: Sequence[Variant]) -> list[Problem]:
    """The paths that no space has."""
    known = {path for arm in arms for path in arm.space}
    problems = []
    for path in point:
        if path not in known:
            close = nearest(path, known)
            hint = f"did you mean {close!r}?" if close else "add it to the space, or set it"
            problems.append(Problem(f"{where}.{path}", "is not searched", hint=hint))
    return problems or ([] if point else [Problem(where, "names no value", hint="such as training.optimizer.lr: 0.1")])


def _misfits(spec: ExperimentSpec, arm: Variant) -> list[Problem]:
    """What keeps the variant's points from being tried."""
    own = len(spec.search.variants[arm.name].points) if arm.name in spec.search.variants else 0
    mine = f"search.variants.{arm.name}.points"
    shared = [number for number, point in enumerate(spec.search.points) if not arm.space.keys().isdisjoint(point)]
    places = [f"search.points.{n}" for n in shared] + [f"{mine}.{n}" for n in range(own)]
    found: list[Problem] = []
    if len(places) > spec.search.samples:
        rule = (
            f"variant {arm.name!r} has {len(places)} points to try first, and search.num_samples {spec.search.samples}"
        )
        found.append(Problem(mine if own else "search.points", rule, hint="raise num_samples, or remove points"))
    for number, (where, given) in enumerate(zip(places, arm.points, strict=True)):
        outside = [path for path, value in given.items() if not arm.space[path].takes(value)]
        found += [
            Problem(
                f"{where}.{path}", f"is not in the domain of variant {arm.name!r}: {arm.space[path]}", given[path], True
            )
            for path in outside
        ]
        if outside:
            continue
        point = arm.drawn(number, spec.seed, given)
        moved = next((path for path, value in given.items() if point[path] != value), None)
        if moved is not None or not arm.keeps_constraints(point):
            rule = f"does not keep search.constraints in variant {arm.name!r}"
            found.append(Problem(f"{where}.{moved}" if moved else where, rule, hint="give all values of these rules"))
            continue
        try:
            arm.run.with_values(point)
        except ValidationError as error:
            problem = problems_of(error, RunSpec, assign(arm.run.model_dump(exclude_unset=True), point))[0]
            rule = f"makes no valid run of variant {arm.name!r}: {problem.path} {problem.rule}"
            found.append(Problem(where, rule, dict(given), True))
    return found
