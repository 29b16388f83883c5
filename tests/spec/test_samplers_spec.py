"""`search.sampler` and `search.scheduler`: names, sections, hashes, and what goes with what."""

import re
from pathlib import Path
from typing import Any

import pytest
from search_specs import BASE, LR, choice, refused, spec_with, uniform

from orchestrator.spec import load_spec
from orchestrator.spec.samplers import OptunaSampler
from orchestrator.spec.search import GOES_WITH

DOCS = Path(__file__).parents[2] / "docs" / "search.md"
RATE = "training.optimizer.lr"
NUMBERS = {RATE: LR, "distillation.kd_weight": uniform(0.1, 1)}
PBT, PB2 = {"scheduler": {"method": "pbt"}}, {"scheduler": {"method": "pb2"}}
NORM, METHOD = "variants.a.space.student.norm", "training.optimizer.method"
FACTORS, INTERVAL = "scheduler.perturbation_factors", "scheduler.perturbation_interval"
ALGORITHMS = ("tpe", "gp", "cmaes", "nsgaii")


def hash_of(**search: Any) -> str:
    return load_spec(BASE | {"search": {"space": NUMBERS, **search}}).hash


def test_a_section_without_options_is_its_plain_name() -> None:
    for name in ("grid", "random", "optuna", "hyperopt"):
        space = {RATE: choice(0.1, 0.2)}
        assert hash_of(sampler=name, space=space) == hash_of(sampler={"method": name}, space=space)
    assert spec_with(sampler={"method": "random"}).search.sampler == "random"
    assert hash_of() == hash_of(sampler={"algorithm": "tpe"}) == hash_of(sampler={"method": "optuna"})
    bohb = {"scheduler": {"method": "bohb"}}
    assert hash_of(sampler="bohb", **bohb) == hash_of(sampler={"method": "bohb", "random_fraction": 1 / 3}, **bohb)


def test_a_plain_name_is_all_that_the_hash_sees_of_it() -> None:
    """Experiments that were begun before samplers had options are found again."""
    search = {"space": {RATE: LR}, "num_samples": 4}
    for name in ("random", "hyperopt"):
        spec = load_spec(BASE | {"search": {**search, "sampler": name}})
        assert spec.model_dump(exclude_defaults=True)["search"].keys() == {"space", "num_samples", "sampler"}
        assert spec.model_dump(exclude_defaults=True)["search"]["sampler"] == name
    spec = load_spec(BASE | {"search": {**search, "scheduler": {"method": "asha"}}})
    assert spec.model_dump(exclude_defaults=True)["search"].keys() == {"space", "num_samples", "scheduler"}
    assert spec.model_dump(exclude_defaults=True)["search"]["scheduler"] == {"method": "asha"}


def test_options_change_the_hash() -> None:
    hashes = [hash_of(sampler={"algorithm": name}) for name in ALGORITHMS]
    hashes += [hash_of(sampler={"startup_trials": 5}), hash_of(sampler={"method": "hyperopt", "startup_trials": 5})]
    assert len(set(hashes)) == len(hashes)


def test_what_is_written_to_disk_loads_to_the_same() -> None:
    for sampler in ("random", {"algorithm": "gp", "startup_trials": 4}, {"method": "hyperopt", "startup_trials": 4}):
        spec = spec_with(sampler=sampler, space=NUMBERS)
        for content in (spec.model_dump(), spec.model_dump(exclude_unset=True)):
            assert load_spec(content) == spec


def test_how_a_sampler_is_called() -> None:
    assert spec_with(sampler="hyperopt").search.drawing == "hyperopt"
    assert spec_with(sampler={"algorithm": "gp"}).search.drawing == "optuna (gp)"
    assert spec_with(sampler="optuna").search.sampling == OptunaSampler()


@pytest.mark.parametrize(
    ("search", "path", "words"),
    [
        ({"sampler": {"method": "grid", "algorithm": "tpe"}}, "sampler.algorithm", "is an option of sampler optuna"),
        ({"sampler": {"method": "random", "startup_trials": 3}}, "sampler.startup_trials", "random has none"),
        ({"sampler": {"algorithm": "nsgaii", "startup_trials": 3}}, "sampler.startup_trials", "set population_size"),
        ({"sampler": {"algorithm": "gp", "population_size": 3}}, "sampler.population_size", "gp has no population"),
        ({"sampler": {"algorithm": "bo"}}, "sampler.algorithm", "'tpe', 'gp', 'cmaes' or 'nsgaii'"),
        ({"sampler": {"method": "ax"}}, "sampler.method", "'grid', 'random', 'optuna', 'hyperopt', 'bohb'"),
        ({"sampler": "ax"}, "sampler", "'grid', 'random', 'optuna', 'hyperopt' or 'bohb'"),
        ({"sampler": {"algorithm": "cmaes"}, "space": {RATE: LR}}, "sampler.algorithm", "needs two or more numbers"),
        ({"sampler": "optuna", "scheduler": {"method": "pbt"}}, "scheduler.method", "use sampler random"),
        ({"sampler": "hyperopt", "scheduler": {"method": "pb2"}}, "scheduler.method", "use sampler random"),
        (PBT | {"space": {"training.batch_size": choice(32, 64)}}, "space.training.batch_size", "cannot change in mid"),
        (PBT | {"variants": {"a": {"space": {"student.norm": choice("batch", "group")}}}}, NORM, "compare its values"),
        (
            PBT | {"space": {"training.optimizer.method": choice("sgd", "adamw")}},
            f"space.{METHOD}",
            "optimizer's numbers",
        ),
        (PBT | {"space": {"distillation": choice({"kd_weight": 0.5})}}, "space.distillation", "use scheduler asha"),
        (PB2 | {"space": {RATE: choice(0.1, 0.2)}}, f"space.{RATE}", "use a domain of numbers, or scheduler pbt"),
        (PBT | {"num_samples": 1}, "num_samples", "two trials or more"),
        (PBT | {"sampler": "grid", "space": {RATE: choice(0.1)}}, "num_samples", "two trials or more"),
        ({"scheduler": {"method": "pbt", "quantile_fraction": 0.6}}, "scheduler.quantile_fraction", "<= 0.5"),
        ({"scheduler": {"method": "pbt", "perturbation_factors": [1.2]}}, FACTORS, "some below 1 and some above"),
        ({"scheduler": {"method": "pbt", "perturbation_interval": 10}}, INTERVAL, "must be below training.epochs (10)"),
        ({"scheduler": {"method": "pb2", "resample_probability": 0}}, "scheduler.resample_probability", "unknown key"),
        ({"sampler": "bohb"}, "scheduler.method", "use {method: bohb}, or sampler optuna"),
        ({"sampler": "bohb", "scheduler": {"method": "asha"}}, "scheduler.method", "use {method: bohb}"),
        ({"sampler": "optuna", "scheduler": {"method": "bohb"}}, "scheduler.method", "{method: hyperband} with optuna"),
        ({"sampler": "grid", "scheduler": {"method": "bohb"}}, "scheduler.method", "{method: hyperband} with grid"),
        (
            {
                "scheduler": {"method": "hyperband"},
                "space": {"training.epochs": {"type": "randint", "low": 2, "high": 4}},
            },
            "space.training.epochs",
            "use asha",
        ),
        (
            {
                "scheduler": {"method": "hyperband"},
                "variants": {"a": {"space": {"training": choice({"epochs": 3}, {"epochs": 4})}}},
            },
            "variants.a.space.training",
            "use asha",
        ),
        ({"scheduler": {"method": "hyperband", "reduction_factor": 1.5}}, "scheduler.reduction_factor", ">= 2"),
    ],
)
def test_what_does_not_work_is_refused_with_what_to_use(search: dict[str, Any], path: str, words: str) -> None:
    problems = refused(**({"space": NUMBERS} | search))
    assert [problem.path for problem in problems] == [f"search.{path}"]
    assert words in str(problems[0])


def test_what_a_run_can_take_in_mid_training_may_be_searched_by_a_population() -> None:
    features = [{"method": "fitnet"}]
    space = {
        "training.optimizer.weight_decay": uniform(0, 0.01),
        "training.schedule": choice({"method": "step"}, {"method": "cosine"}),
        "training.gradient_clip": uniform(1, 5),
        "distillation.ce_weight": uniform(0.1, 1),
        "distillation.temperature.max": uniform(5, 16),
        "distillation.adjustment": choice({"rule": "none"}, {"rule": "probability_shift"}),
        "distillation.features.0.weight": uniform(0.1, 10),
    }
    spec = load_spec(
        BASE | {"search": {"sampler": "random", "space": space, **PBT}}, {"distillation.features": features}
    )
    assert spec.search.scheduler.interval(240) == 24
    assert spec.search.scheduler.interval(5) == 1


def test_a_population_is_of_trials_of_one_worker() -> None:
    spec = BASE | {"search": {"sampler": "random", "space": NUMBERS, **PBT}}
    for workers in (2, [1, 2]):
        with pytest.raises(
            Exception, match=r"search.scheduler.method: 'pbt': hands checkpoints .* use asha or hyperband"
        ):
            load_spec(spec, {"resources.num_workers": workers})


def test_a_line_of_the_file_is_named(tmp_path: Path) -> None:
    text = "name: a\ndata: {dataset: digits}\nteacher: {model: resnet8}\nstudent: {model: resnet8}\nsearch:\n"
    path = tmp_path / "spec.yaml"
    path.write_text(f"{text}  sampler: bohb\n  scheduler:\n    method: asha\n")
    with pytest.raises(Exception, match=r"search.scheduler.method \(line 8\): 'asha'"):
        load_spec(path)


def table(page: str) -> dict[str, dict[str, bool]]:
    """The documentation's table of samplers and schedulers."""
    rows = [line.strip("| ").split("|") for line in page.splitlines() if line.startswith("|")]
    start = next(n for n, row in enumerate(rows) if row[0].strip() == "sampler \\ scheduler")
    names = [cell.strip(" `") for cell in rows[start][1:]]
    found = {}
    for row in rows[start + 2 :]:
        samplers = re.findall(r"`([a-z]+)`", row[0])
        cells = [cell.strip() for cell in row[1:]]
        if not samplers or len(cells) != len(names):
            break
        for sampler in samplers:
            found[sampler] = {name: cell == "yes" for name, cell in zip(names, cells, strict=True)}
    return found


def test_the_documentations_table_is_what_validate_says() -> None:
    shown = table(DOCS.read_text())
    assert set(shown) == set(GOES_WITH)
    for sampler, row in shown.items():
        space = {RATE: {"type": "quniform", "low": 0.1, "high": 0.2, "q": 0.05}} if sampler == "grid" else NUMBERS
        for scheduler, works in row.items():
            search = {"sampler": sampler, "scheduler": {"method": scheduler}, "space": space}
            if works:
                spec_with(**search)
            else:
                assert refused(**search)[0].path == "search.scheduler.method"
