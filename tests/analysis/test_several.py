"""Results of values that change in mid-training, of several metrics, and of several repeated configurations."""

from typing import Any

from orchestrator import load_spec
from orchestrator.analysis.results import Results
from orchestrator.search.trials import Change, Phase, Record, Status, Trial

LR, WIDTH = "training.optimizer.lr", "student.width"
SPEC: dict[str, Any] = {
    "name": "exp",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
    "search": {
        "sampler": "random",
        "space": {LR: {"type": "loguniform", "low": 0.01, "high": 0.2}},
        "final_seeds": 2,
    },
}
SEVERAL = {
    "search.space": {LR: SPEC["search"]["space"][LR], WIDTH: {"type": "choice", "values": [0.5, 1.0]}},
    "search.metric": ["val/acc1", "student.flops"],
}


def results(records: list[Record], changes: dict[str, Any] | None = None) -> Results:
    return Results(load_spec(SPEC, changes), {record.trial.id: record for record in records})


def search(number: int, accuracy: float, flops: float = 1e6, lr: float = 0.1, *changes: Change) -> Record:
    trial = Trial(f"default-00{number}", Phase.SEARCH, "default", number, 0, {LR: lr})
    metrics, rungs = {"val/acc1": accuracy}, [1.0] * len(changes)
    return Record(trial, Status.FINISHED, metrics, 4, described={"student.flops": flops}, rungs=rungs, changes=changes)


def final(seed: int, accuracy: float, flops: float = 1e6, repeats: str | None = None) -> Record:
    trial = Trial(f"f-{seed}-{repeats}", Phase.FINAL, "default", seed - 1, seed, {LR: 0.1}, repeats=repeats)
    metrics = {"val/acc1": accuracy, "test/acc1": accuracy - 1}
    return Record(trial, Status.FINISHED, metrics, 4, described={"student.flops": flops})


def test_the_winning_values_are_those_that_made_the_weights() -> None:
    other = search(0, 80.0, 1e6, 0.05)
    winner = search(1, 90.0, 1e6, 0.1, Change(2, {LR: 0.06}, "default-000"))
    found = results([other, winner])
    (variant,) = found.variants
    assert variant.best is winner
    assert variant.params == {LR: 0.06}
    assert variant.chosen == "lr 0.05; after epoch 2: lr 0.06"
    (content,) = found.to_dict()["variants"]
    assert content["schedule"] == [
        {"after_epoch": 0, "params": {LR: 0.05}, "weights_of": None},
        {"after_epoch": 2, "params": {LR: 0.06}, "weights_of": None},
    ]
    trials = found.to_dict()["trials"]
    assert "schedule" not in trials[0]
    assert [entry["weights_of"] for entry in trials[1]["schedule"]] == [None, "default-000"]
    assert [row[f"params.{LR}"] for row in found.trial_rows()] == [0.05, 0.06]


def test_the_front_of_a_search_with_several_metrics_is_shown_unasked() -> None:
    trials = [search(0, 80.0, 1e6), search(1, 90.0, 3e6), search(2, 70.0, 2e6)]
    front = results(trials, SEVERAL).front()
    assert front is not None
    assert [objective.name for objective in front.objectives] == ["val/acc1", "student.flops"]
    assert [placed.standing for placed in front.placed] == ["yes", "yes", "perhaps"]
    assert results(trials).front() is None


def test_several_tested_configurations_make_the_front_and_one_of_them_the_comparison() -> None:
    trials = [search(0, 80.0, 1e6), search(1, 90.0, 3e6)]
    finals = [final(1, 89.0, 3e6), final(2, 91.0, 3e6)]
    finals += [final(seed, 79.0, 1e6, "default-000") for seed in (1, 2)]
    found = results(trials + finals, SEVERAL | {"search.final_configs": 2})
    (variant,) = found.variants
    assert variant.by_seed == {1: 88.0, 2: 90.0}
    front = found.front()
    assert front is not None
    assert [objective.name for objective in front.objectives] == ["test/acc1", "student.flops"]
    assert [(p.candidate.name, p.candidate.mean(front.objectives[0])) for p in front.placed] == [
        ("default", 89.0),
        ("default-000", 78.0),
    ]
    assert [trial.get("repeats") for trial in found.to_dict()["trials"][2:]] == [None, None, *["default-000"] * 2]
