"""extend: more of an experiment, with nothing of it repeated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.options import ClusterOption, Format, FormatOption, HomeOption, NamedArgument
from orchestrator.cli.remote import ask_there
from orchestrator.cli.results import summary_of
from orchestrator.errors import UsageError
from orchestrator.experiment import Experiment
from orchestrator.search.extension import SAMPLES, SEEDS, TIME, VARIANT, Change, compare, grown
from orchestrator.search.standing import State
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.spec.loading import read_mapping, to_yaml
from orchestrator.store.home import Home

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
OPTIONS = "--num-samples, --final-seeds, --time or --variants"


def extend(
    name: NamedArgument,
    num_samples: Annotated[
        str | None, typer.Option(metavar="N", help="Trials of each variant: 44, or +20 for so many more.")
    ] = None,
    final_seeds: Annotated[
        str | None, typer.Option(metavar="N", help="Fresh seeds of each variant's best: 7, or +2.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time budget: 3h, or +90m; units s, m, h and d.")
    ] = None,
    variants: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file of further variants, as below search.variants.")
    ] = None,
    format: FormatOption = Format.TABLE,
    address: ClusterOption = None,
    home: HomeOption = None,
) -> int:
    """Give an experiment more samples, final seeds, time or variants; the next run goes on with these.

    No trial that has ended is repeated, and none is changed. Where more samples find a better configuration of a
    variant, its final runs are made anew; those of the earlier one stay recorded, and count no more.
    """
    if address is not None:
        return _extend_there(address, name, num_samples, final_seeds, time, variants, format, home)
    place = Home(home)
    folder = place.find(name)
    folder.look()
    # Before what it is compared with, so that nothing that comes in between is overwritten.
    known = folder.extensions()[0]
    experiment = Experiment.read(folder, place)
    if experiment.state is State.RUNNING:
        raise UsageError(f"{experiment.id} is running", hint=f"pause it first: orchestrator pause {experiment.id}")
    if experiment.home.experiment(experiment.spec).path != experiment.folder.path:
        raise UsageError(f"{experiment.id} was started over, or is of another version: it cannot be continued")
    changes = _changes(experiment.spec, num_samples, final_seeds, time, variants)
    new = grown(experiment.spec, changes)
    if obstacle := compare(experiment.spec, new).obstacle:
        raise UsageError(f"{experiment.id} cannot be extended: {obstacle}", hint="run another experiment instead")
    with folder.opened(new, changes, known):
        pass
    after = Experiment.read(folder, place)
    left, advice = after.plan.total_trials - after.ended, after.advice()
    if format is Format.JSON:
        made = [asdict(change) for change in changes]
        print(json.dumps({**summary_of(after), "changes": made, "left": left, "advice": advice}, indent=2))
        return 0
    print(f"{experiment.id}: {', '.join(map(str, changes))}")
    print(
        f"  {after.ended} of now {after.plan.total_trials} trials have ended" + (f", {left} are left" if left else "")
    )
    if advice:
        print(f"  {advice}")
    elif left:
        print("  but none of them can run: the budget is spent, or what they need has failed")
    return 0


def _extend_there(
    address: str,
    name: str,
    num_samples: str | None,
    final_seeds: str | None,
    time: str | None,
    variants: Path | None,
    format: Format,
    home: str | None,
) -> int:
    """The same where the cluster has it; the file of variants goes with the command."""
    given = {"--num-samples": num_samples, "--final-seeds": final_seeds, "--time": time}
    words = [word for option, value in given.items() if value is not None for word in (option, value)]
    file = None
    if variants is not None:
        file = to_yaml(read_mapping(variants))
        words += ["--variants", "spec.yaml"]
    if not words:
        raise UsageError(f"nothing was given to extend it by: use {OPTIONS}")
    words += ["--format", format] if format is Format.JSON else []
    return ask_there(address, "extend", [name], words, home, file)


def _changes(
    spec: ExperimentSpec, samples: str | None, seeds: str | None, time: str | None, variants: Path | None
) -> list[Change]:
    found = [
        Change(path, old, _larger(option, given, old, count=path != TIME))
        for option, path, given, old in (
            ("--num-samples", SAMPLES, samples, spec.search.samples),
            ("--final-seeds", SEEDS, seeds, spec.search.final_seeds),
            ("--time", TIME, time, spec.budget.time_s),
        )
        if given is not None
    ]
    found += [Change(VARIANT + name, None, arm) for name, arm in _added(spec, variants).items()]
    if not found:
        raise UsageError(f"nothing was given to extend it by: use {OPTIONS}")
    return found


def _larger(option: str, given: str, old: float | None, *, count: bool) -> float:
    """The new value of "44" or "+20", or of a time such as "+1h"."""
    match = re.fullmatch(r"(\+?)(\d+(?:\.\d+)?)([a-z]?)", given.strip())
    if match is None or match[3] not in UNITS or (count and not f"{match[2]}{match[3]}".isdecimal()):
        form = "a number such as 44, or +20 for so many more" if count else "a time such as 3h, or +90m"
        raise UsageError(f"{option} {given!r}: must be {form}")
    if old is None:
        raise UsageError(f"{option}: the experiment has no budget.time_s, so that its time is not limited")
    value = float(match[2]) * UNITS[match[3]] + (old if match[1] else 0)
    if value <= old:
        raise UsageError(f"{option} {given!r}: is to be more than what it has, {old:.10g}")
    return int(value) if count else value


def _added(spec: ExperimentSpec, path: Path | None) -> Mapping[str, Any]:
    arms = {} if path is None else read_mapping(path)
    for name, arm in arms.items():
        if name in spec.search.variants:
            raise UsageError(f"--variants {path}: there is a variant {name!r} already", hint="give it another name")
        if not isinstance(arm, dict):
            raise UsageError(
                f"--variants {path}: {name!r} must be a mapping with set, space or points",
                hint="the file has names of variants at its top level, as there are below search.variants",
            )
    return arms
