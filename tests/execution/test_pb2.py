"""PB2's proposals: where gains were, on what scale, and alike every time."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator import load_spec
from orchestrator.execution import pb2
from orchestrator.execution.pb2 import proposed
from orchestrator.search.brackets import Exploit
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Change, Phase, Record, Status, Trial
from orchestrator.spec.domains import to_unit
from orchestrator.spec.variants import Variant

LR, WEIGHT = "training.optimizer.lr", "distillation.kd_weight"
SPEC: dict[str, Any] = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
    "training": {"epochs": 20},
    "search": {
        "sampler": "random",
        "scheduler": {"method": "pb2", "perturbation_interval": 2},
        "num_samples": 8,
        "space": {
            LR: {"type": "loguniform", "low": 0.001, "high": 1.0},
            WEIGHT: {"type": "quniform", "low": 0.1, "high": 1.0, "q": 0.1},
        },
    },
}


def variant() -> Variant:
    return make_plan(load_spec(SPEC)).by_name["default"].variant


def population(rounds: int, sign: int = 1, count: int = 8) -> list[Record]:
    """Members that gain the more in every interval the nearer their rate is to 0.03."""
    space, found = variant().space, []
    for index in range(count):
        params = variant().drawn(index, 1)
        params[LR] = 0.001 * 1000 ** (index / (count - 1))
        gain = 5 - 8 * abs(to_unit(space[LR], params[LR]) - to_unit(space[LR], 0.03))  # type: ignore[arg-type]
        trial = Trial(f"m-{index}", Phase.SEARCH, "default", index, 0, params)
        values = [sign * (50 + gain * number) for number in range(1, rounds + 1)]
        found.append(Record(trial, Status.PAUSED, epochs=2 * rounds, rungs=values))
    return found


def exploit(members: list[Record], key: str = "0/default/0") -> Exploit:
    rounds = len(members[0].rungs)
    loser = min(members, key=lambda r: abs(r.rungs[-1]))
    source = max(members, key=lambda r: abs(r.rungs[-1]))
    return Exploit(loser, source, 2 * rounds, f"{key}/{rounds}")


def test_values_are_proposed_where_gains_were_large() -> None:
    rate_alone = replace(variant(), space={LR: variant().space[LR]})
    for better in (1, -1):
        members = population(5, better)
        rates = [proposed(rate_alone, exploit(members, f"{n}"), members, better)[LR] for n in range(4)]
        assert all(0.01 < rate < 0.1 for rate in rates), rates


def test_values_lie_in_their_domains_and_come_out_alike() -> None:
    members = population(4)
    first = proposed(variant(), exploit(members), members, 1)
    assert first == proposed(variant(), exploit(members), members, 1)
    assert all(variant().space[path].takes(value) for path, value in first.items())


def test_what_another_tries_already_is_not_tried_again() -> None:
    members = population(4)
    this = exploit(members)
    first = proposed(variant(), this, members, 1)
    other = members[1]
    assert other.trial.id not in (this.loser.trial.id, this.source.trial.id)
    other.changes = (Change(this.epoch, first, this.source.trial.id),)
    assert proposed(variant(), this, members, 1) != first


def test_the_first_comparison_draws() -> None:
    members = population(1)
    found = [proposed(variant(), exploit(members, str(n)), members, 1) for n in range(30)]
    rates = [values[LR] for values in found]
    assert min(rates) < 0.005
    assert max(rates) > 0.2
    assert proposed(variant(), exploit(members, "7"), members, 1) == found[7]


def test_gains_count_from_the_weights_that_were_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who jumps to better weights has gained nothing by its values; what it gains from there is theirs."""
    members = population(3, count=3)
    values = [dict(record.trial.params) for record in members]
    for record, rungs in zip(members, ([10, 40, 44], [50, 52, 51], [30, 31, 37]), strict=True):
        record.rungs = [float(value) for value in rungs]
    new = {LR: 1.0, WEIGHT: 0.1}
    # After the first comparison one took over another; at the third one another has done so already.
    members[0].changes = (Change(2, new, "m-1"),)
    members[2].changes = (Change(6, new, "m-1"),)
    this = Exploit(members[0], members[1], 6, "key")
    seen: list[Any] = []
    monkeypatch.setattr(pb2, "_best_shares", lambda *asked: seen.extend(asked) or [0.5, 0.5])
    proposed(variant(), this, members, 1)
    rows, gains, tried, here, _ = seen
    space = variant().space

    def row(epoch: int, value: float, params: dict[str, Any]) -> list[float]:
        return [epoch, value, *(to_unit(space[path], params[path]) for path in space)]  # type: ignore[arg-type]

    assert rows == [
        row(2, 50, new),
        row(2, 50, values[1]),
        row(2, 30, values[2]),
        row(4, 40, new),
        row(4, 52, values[1]),
        row(4, 31, values[2]),
    ]
    assert gains == [-5, 1, 0.5, 2, -0.5, 3]
    assert [start.row for start in tried] == [row(6, 51, new)]
    assert here == [6, 51]
