"""export: a trained student as files that others can use."""

from __future__ import annotations

import time
from dataclasses import asdict
from json import dumps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from orchestrator.analysis.students import find_student
from orchestrator.cli import complete
from orchestrator.cli.options import HomeOption, JsonOption, NameArgument, choices
from orchestrator.cli.terminal import is_quiet
from orchestrator.errors import UsageError
from orchestrator.experiment import Experiment
from orchestrator.export.blueprint import Format

CARD = "README.md"
VariantOption = Annotated[
    str | None,
    typer.Option(
        metavar="VARIANT",
        help="Whose student; default: the best variant's, by validation.",
        autocompletion=complete.variants,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        metavar="SEED",
        help="The student of this seed; default: the variant's best by validation.",
        autocompletion=complete.seeds,
    ),
]
TrialOption = Annotated[
    str | None,
    typer.Option(metavar="ID", help="The student of this final run, by its id.", autocompletion=complete.final_runs),
]


def export(
    name: NameArgument = None,
    variant: VariantOption = None,
    format: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar=choices(Format),
            help="May be repeated; default: safetensors.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="New folder; default: EXPERIMENT-VARIANT, here.")
    ] = None,
    seed: SeedOption = None,
    trial: TrialOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the folder has of these files.")] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> int:
    """Write a trained student with its model card, and check that what was written answers as the student does.

    The files take images scaled to 0..1, in batches of any size; the normalisation is inside.
    """
    began = time.monotonic()
    experiment = Experiment.load(name, home)
    chosen = find_student(experiment.results(), variant, seed, trial)
    folder = output or Path(f"{experiment.id}-{chosen.variant.name}")
    formats = list(dict.fromkeys(format or [Format.SAFETENSORS]))
    wanted = [CARD, *(each.file for each in formats)]
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output: {folder} is a file", hint="name a folder")
    if not overwrite and (there := [file for file in wanted if (folder / file).exists()]):
        raise UsageError(f"{folder} has {' and '.join(there)} already", hint="choose another --output, or --overwrite")

    from orchestrator.execution.students import card_of
    from orchestrator.export.check import Check, check
    from orchestrator.export.formats import load, write
    from orchestrator.export.student import load_student
    from orchestrator.store.students import student_weights

    record = chosen.record
    weights = student_weights(experiment.folder, record.trial.id)
    student = load_student(weights)

    def tell(line: str) -> None:
        if not (json or is_quiet()):
            print(line)

    tell(f"{chosen.variant.name}: {record.trial.id}, seed {record.trial.seed}, {chosen.metric} {chosen.value:.2f}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    found: dict[Format, Check] = {}
    # What is not as it should be is never seen at its place.
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as unfinished:
        for each in formats:
            path = write(student, weights, Path(unfinished), each)
            found[each] = check(student, load(path).logits, path.name)
        environments = experiment.folder.environments()
        card = card_of(
            experiment.results(),
            experiment.plan,
            experiment.home,
            experiment.folder,
            chosen,
            student.blueprint,
            environments[-1] if environments else {},
            {each: str(checked) for each, checked in found.items()},
        )
        (Path(unfinished) / CARD).write_text(card, encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for file in wanted:
            (Path(unfinished) / file).replace(folder / file)
    files = [(folder / each.file, each, checked) for each, checked in found.items()]
    for path, _, checked in files:
        tell(f"  {path}: {path.stat().st_size / 1e6:.2f} MB; {checked}")
    tell(f"  {folder / CARD}: what it is, how to use it, and how good it is")
    tell(f"Took {time.monotonic() - began:.0f} s. Try it with: orchestrator predict {folder} IMAGES")
    if json:
        content: dict[str, Any] = {
            "id": experiment.id,
            "variant": chosen.variant.name,
            "trial": record.trial.id,
            "seed": record.trial.seed,
            "metrics": record.metrics,
            "folder": str(folder),
            "card": str(folder / CARD),
            "files": [
                {"format": str(each), "path": str(path), "bytes": path.stat().st_size, **asdict(checked)}
                for path, each, checked in files
            ],
        }
        print(dumps(content, indent=2))
    elif is_quiet():
        print(folder)
    return 0
