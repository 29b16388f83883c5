"""Constraints between searched values, and the points of a space: drawn ones and grids."""

import random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from search_specs import TEMPERATURE, arms, choice, refused, spec_with, uniform

from orchestrator.errors import SpecError
from orchestrator.search.points import random_points
from orchestrator.spec.domains import draw
from orchestrator.spec.variants import flatten, variants

# Constraints


def test_the_left_side_is_moved_if_it_is_searched_and_else_the_right() -> None:
    both = {f"{TEMPERATURE}.min": uniform(1, 6), f"{TEMPERATURE}.base": uniform(3, 8)}
    rule = [f"{TEMPERATURE}.min <= {TEMPERATURE}.base"]
    (variant,) = arms(space=both, constraints=rule).values()
    assert variant.repaired({f"{TEMPERATURE}.min": 5.0, f"{TEMPERATURE}.base": 3.5}) == {
        f"{TEMPERATURE}.min": 3.5,
        f"{TEMPERATURE}.base": 3.5,
    }
    kept = {f"{TEMPERATURE}.min": 2.0, f"{TEMPERATURE}.base": 3.5}
    assert variant.repaired(kept) == kept
    (variant,) = arms(space={f"{TEMPERATURE}.base": uniform(0.5, 8)}, constraints=rule).values()
    assert variant.repaired({f"{TEMPERATURE}.base": 0.6}) == {f"{TEMPERATURE}.base": 1.0}


def test_a_bound_may_be_a_number_and_keeps_whole_numbers_whole() -> None:
    space = {"training.batch_size": {"type": "randint", "low": 8, "high": 64}}
    (variant,) = arms(space=space, constraints=["training.batch_size >= 16"]).values()
    moved = variant.repaired({"training.batch_size": 9})["training.batch_size"]
    assert (moved, type(moved)) == (16, int)


def test_a_chain_of_constraints_is_kept_as_a_whole() -> None:
    (variant,) = arms(
        space={f"{TEMPERATURE}.min": uniform(1, 6), f"{TEMPERATURE}.base": uniform(2, 8)},
        constraints=[f"{TEMPERATURE}.min <= {TEMPERATURE}.base", f"{TEMPERATURE}.base <= 5"],
    ).values()
    assert variant.repaired({f"{TEMPERATURE}.min": 6.0, f"{TEMPERATURE}.base": 8.0}) == {
        f"{TEMPERATURE}.min": 5,
        f"{TEMPERATURE}.base": 5,
    }


def test_a_constraint_without_a_searched_field_must_hold_by_itself() -> None:
    space = {"training.batch_size": {"type": "randint", "low": 8, "high": 64}}
    spec_with(space=space, constraints=["training.epochs <= 10"])
    (problem,) = refused(space=space, constraints=["training.epochs <= 5"])
    assert problem.path == "search.constraints"
    assert "with training.epochs = 10, 'training.epochs <= 5' does not hold" in problem.rule
    (problem,) = refused(space=space, constraints=["training.epochs <= training.optimizer.lr"])
    assert "training.optimizer.lr = 0.1" in problem.rule


def test_constraints_that_contradict_each_other_are_refused() -> None:
    space = {"training.batch_size": {"type": "randint", "low": 8, "high": 64}}
    (problem,) = refused(space=space, constraints=["training.batch_size <= 9", "training.batch_size >= 20"])
    assert problem.path == "search.constraints"


def test_a_constraint_that_moves_a_value_out_of_its_domain_is_refused() -> None:
    rule = [f"{TEMPERATURE}.min <= {TEMPERATURE}.base"]
    (problem,) = refused(
        space={f"{TEMPERATURE}.min": choice(1, 2, 4), f"{TEMPERATURE}.base": choice(3, 4)}, constraints=rule
    )
    assert problem.path == f"search.space.{TEMPERATURE}.min"
    assert "moves it to 3, out of its domain" in problem.rule
    (problem,) = refused(
        space={f"{TEMPERATURE}.min": uniform(1, 6), f"{TEMPERATURE}.base": uniform(0.5, 8)}, constraints=rule
    )
    assert "moves it to 0.5, out of its domain" in problem.rule


def test_a_constraint_holds_for_the_variants_that_have_its_fields() -> None:
    rule = f"{TEMPERATURE}.min <= {TEMPERATURE}.base"
    found = arms(
        variants={
            "kd": {
                "set": {TEMPERATURE: {"method": "constant"}},
                "space": {f"{TEMPERATURE}.base": uniform(0.5, 8)},
            },
            "dtd": {"space": {f"{TEMPERATURE}.base": uniform(0.5, 8)}},
        },
        constraints=[rule],
    )
    assert found["kd"].constraints == ()
    assert [constraint.text for constraint in found["dtd"].constraints] == [rule]
    assert found["kd"].repaired({f"{TEMPERATURE}.base": 0.6}) == {f"{TEMPERATURE}.base": 0.6}


def test_a_constraint_that_no_variant_has_is_refused() -> None:
    (problem,) = refused(constraints=["training.foo <= 3"])
    assert (problem.path, problem.value) == ("search.constraints", "training.foo <= 3")
    assert problem.rule == "names a field that no variant has"


@pytest.mark.parametrize("values", [[None, 1.0], [{"a": 1}]])
def test_values_that_cannot_be_compared(values: list) -> None:
    found = refused(
        space={"training.gradient_clip": choice(*values)},
        constraints=["training.gradient_clip <= training.epochs"],
    )
    assert found


def test_a_constraint_reads_the_section_that_was_chosen() -> None:
    (variant,) = arms(
        space={TEMPERATURE: choice({"method": "constant", "base": 9}, {"method": "flsw", "base": 5, "min": 3})},
        constraints=[f"{TEMPERATURE}.min <= 3", f"{TEMPERATURE}.base <= 9"],
    ).values()
    assert not variant.keeps_constraints({TEMPERATURE: {"method": "flsw", "base": 10, "min": 3}})
    assert not variant.keeps_constraints({TEMPERATURE: {"method": "flsw", "base": 5, "min": 4}})
    assert variant.keeps_constraints({TEMPERATURE: {"method": "constant", "base": 9}})


SEARCHED = {
    f"{TEMPERATURE}.min": (0.25, 6.0),
    f"{TEMPERATURE}.base": (0.25, 8.0),
    f"{TEMPERATURE}.max": (0.25, 16.0),
    f"{TEMPERATURE}.beta": (0.0, 30.0),
}
SIDES = st.sampled_from([*SEARCHED, "1", "4", "5.5", "training.epochs"])


@st.composite
def searches(draw_: st.DrawFn) -> dict[str, Any]:
    space = {}
    for path in draw_(st.lists(st.sampled_from(sorted(SEARCHED)), min_size=1, unique=True)):
        low, high = sorted(
            draw_(st.lists(st.sampled_from([n / 4 for n in range(1, 64)]), min_size=2, max_size=2, unique=True))
        )
        space[path] = uniform(max(low, SEARCHED[path][0]), high + SEARCHED[path][1])
    rules = st.builds(
        lambda a, op, b: f"{a} {op} {b}",
        st.sampled_from(sorted(SEARCHED)),
        st.sampled_from(["<=", ">="]),
        SIDES,
    )
    base = [f"{TEMPERATURE}.min <= {TEMPERATURE}.base", f"{TEMPERATURE}.max >= {TEMPERATURE}.base"]
    return {"space": space, "constraints": base + draw_(st.lists(rules, max_size=3))}


@settings(max_examples=150, deadline=None)
@given(searches(), st.integers(0, 1000))
def test_points_of_an_accepted_search_keep_its_constraints_and_are_valid(search: dict, seed: int) -> None:
    try:
        (variant,) = variants(spec_with(**search))
    except SpecError:
        assume(False)
    for point in random_points(variant, 8, seed):
        assert variant.keeps_constraints(point)
        assert point.keys() == search["space"].keys()
        assert all(domain.holds(point[path]) for path, domain in variant.space.items())
        assert variant.repaired(point) == point
        resolved = flatten(variant.run.with_values(point).model_dump())
        assert {path: resolved[path] for path in point} == point


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["uniform", "loguniform", "quniform", "randint", "lograndint", "choice"]),
    st.integers(),
    st.data(),
)
def test_draws_lie_in_their_domain(kind: str, seed: int, data: st.DataObject) -> None:
    if kind == "choice":
        raw = choice(*data.draw(st.lists(st.integers(1, 50), min_size=1, unique=True)))
    else:
        low = data.draw(st.integers(1, 20))
        raw = {"type": kind, "low": low, "high": low + data.draw(st.integers(1, 20))}
        if kind == "quniform":
            raw |= {"q": 0.5}
    path = "training.batch_size" if kind in ("randint", "lograndint", "choice") else "training.optimizer.lr"
    domain = spec_with(space={path: raw}).search.space[path]
    rng = random.Random(seed)
    for value in (draw(domain, rng) for _ in range(20)):
        assert domain.holds(value)
        assert domain.size is None or value in domain.grid
    assert domain.size is None or len(domain.grid) == domain.size


def test_both_ends_are_drawn() -> None:
    for kind in ("randint", "lograndint"):
        domain = spec_with(space={"training.epochs": {"type": kind, "low": 1, "high": 3}}).search.space[
            "training.epochs"
        ]
        drawn = [draw(domain, random.Random(n)) for n in range(300)]
        assert set(drawn) == {1, 2, 3}
        assert min(drawn.count(1), drawn.count(3)) > 30
    domain = spec_with(space={"training.optimizer.lr": {"type": "quniform", "low": 0.1, "high": 0.3, "q": 0.1}})
    assert domain.search.space["training.optimizer.lr"].grid == [0.1, 0.2, 0.3]


# Grids


def test_a_grid_that_is_too_large_or_empty_is_refused() -> None:
    batch = {"training.batch_size": {"type": "randint", "low": 1, "high": 10**9}}
    (problem,) = refused(sampler="grid", num_samples=1, space=batch)
    assert problem.path == "search.space"
    assert "makes 1000000000 trials" in problem.rule
    (problem,) = refused(
        sampler="grid",
        space={"training.batch_size": choice(8, 16)},
        constraints=["training.batch_size <= 4"],
    )
    assert "leaves no point of the grid" in problem.rule
    (problem,) = refused(
        sampler="grid",
        num_samples=5001,
        variants={"a": {"space": {"training.batch_size": choice(8, 16)}}, "b": {}},
    )
    assert problem.path == "search.variants.a.space"


def test_a_grid_leaves_out_what_breaks_a_constraint_and_checks_the_rest() -> None:
    space = {f"{TEMPERATURE}.min": choice(1, 2, 5), f"{TEMPERATURE}.base": choice(2, 4)}
    rule = f"{TEMPERATURE}.min <= {TEMPERATURE}.base"
    (variant,) = arms(sampler="grid", space=space, constraints=[rule]).values()
    assert [tuple(point.values()) for point in variant.grid()] == [(1, 2), (1, 4), (2, 2), (2, 4)]
    assert refused(sampler="grid", space=space)
