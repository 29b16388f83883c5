"""predict: what a trained student takes images for."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from orchestrator.analysis.students import find_student
from orchestrator.cli import complete
from orchestrator.cli.export import SeedOption, TrialOption
from orchestrator.cli.options import HomeOption, RowFormat, choices
from orchestrator.cli.tables import table_of
from orchestrator.cli.terminal import screen
from orchestrator.errors import UsageError
from orchestrator.experiment import Experiment

if TYPE_CHECKING:
    from orchestrator.export.formats import Exported
    from orchestrator.export.predict import Batch, Prediction
    from orchestrator.spec.data import DataSpec

SHOWN = 20
"""Test images that a table shows."""


def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An exported folder or file, or NAME or NAME/VARIANT of an experiment.",
            show_default=False,
            autocompletion=complete.students,
        ),
    ],
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGES", help="Image files, or folders of them.")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Take the test images of its data set instead.")] = False,
    root: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="With --test: where the data set lies; default: the usual place."),
    ] = None,
    top: Annotated[int, typer.Option(metavar="COUNT", min=1, help="Classes that are told of each image.")] = 3,
    resize: Annotated[
        bool, typer.Option("--resize", help="Resize images of another size, and take the centre.")
    ] = False,
    batch_size: Annotated[int, typer.Option(metavar="COUNT", min=1, help="Images at a time.")] = 256,
    format: Annotated[
        RowFormat,
        typer.Option(
            "--format", metavar=choices(RowFormat), help="table for people, json, or csv with one row an image."
        ),
    ] = RowFormat.TABLE,
    seed: SeedOption = None,
    trial: TrialOption = None,
    home: HomeOption = None,
) -> int:
    """Tell which classes a trained student takes images for, and how sure it is."""
    if bool(images) == test:
        raise UsageError("give either IMAGES or --test")
    if root is not None and not test:
        raise UsageError("--root goes with --test")

    from orchestrator.export.predict import from_files, image_files
    from orchestrator.export.predict import predict as predicted

    exported, data, place = _find(model, seed, trial, home)
    if test:
        batches = _test_images(exported, data, place, root, batch_size)
    else:
        batches = from_files(exported.blueprint, image_files(images or []), batch_size, resize=resize)
    found = list(predicted(exported, batches, top))
    accuracy = 100 * sum(each.right for each in found) / len(found) if test else None
    if format is RowFormat.JSON:
        content: dict[str, Any] = {"model": model, "images": len(found)}
        content |= {} if accuracy is None else {"test/acc1": accuracy}
        print(json.dumps({**content, "predictions": [_dict(each) for each in found]}, indent=2))
    elif format is RowFormat.CSV:
        _print_csv(found)
    else:
        _print_table(found[:SHOWN] if test else found)
        if accuracy is not None:
            print(f"\n{accuracy:.2f} % of {len(found)} test images of {exported.blueprint.dataset} are right.")
    return 0


def _find(
    model: str, seed: int | None, trial: str | None, home: str | None
) -> tuple[Exported, DataSpec | None, Path | None]:
    """What runs the student; for one of an experiment its images' section, and the folder of decoded ones as well."""
    from orchestrator.export.formats import load
    from orchestrator.export.predict import model_file
    from orchestrator.store.students import student_weights

    path = Path(model)
    file = model_file(path) if path.is_dir() else path if path.is_file() else None
    if file is not None:
        if seed is not None or trial is not None:
            raise UsageError(f"{model} is one exported student; --seed and --trial choose among an experiment's")
        return load(file), None, None
    name, _, variant = model.partition("/")
    try:
        experiment = Experiment.load(name, home)
    except UsageError as error:
        what = f"{model} is a folder without an exported student" if path.is_dir() else f"there is no file {model}"
        raise UsageError(f"{what}, and {error.message}", hint=error.hint) from None
    record = find_student(experiment.results(), variant or None, seed, trial).record
    data = experiment.plan.run_of(record.trial, record.params).data
    return load(student_weights(experiment.folder, record.trial.id)), data, experiment.home.cache


def _test_images(
    exported: Exported, data: DataSpec | None, cache: Path | None, root: str | None, batch_size: int
) -> Iterator[Batch]:
    from pydantic import ValidationError

    from orchestrator.build import load_data
    from orchestrator.data.classes import keep_classes
    from orchestrator.export.predict import from_dataset
    from orchestrator.spec.data import DataSpec
    from orchestrator.store.data import with_local_root

    blueprint = exported.blueprint
    given = {} if root is None else {"root": root}
    try:
        if data is None:
            data = DataSpec.model_validate({"dataset": blueprint.dataset, "image_size": blueprint.image_size, **given})
        else:
            data = data.model_copy(update=given)
    except ValidationError as error:
        raise UsageError(
            f"its data set {blueprint.dataset}: {error.errors()[0]['msg']}", hint="tell where it is with --root"
        ) from None
    dataset = load_data(with_local_root(data, cache), cache)
    if set(blueprint.classes) < set(dataset.classes):
        dataset = keep_classes(dataset, list(blueprint.classes))
    return from_dataset(blueprint, dataset, batch_size)


def _dict(found: Prediction) -> dict[str, Any]:
    known = {} if found.label is None else {"label": found.label}
    top = [{"class": name, "probability": round(value, 6)} for name, value in found.top]
    return {"image": found.image, **known, "top": top}


def _print_csv(found: Sequence[Prediction]) -> None:
    count = len(found[0].top)
    labelled = found[0].label is not None
    header = ["image", *(["label"] if labelled else [])]
    header += [name for number in range(1, count + 1) for name in (f"class_{number}", f"probability_{number}")]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header)
    for each in found:
        cells = [cell for name, value in each.top for cell in (name, f"{value:.6f}")]
        writer.writerow([each.image, *([each.label] if labelled else []), *cells])


def _print_table(found: Sequence[Prediction]) -> None:
    labelled = found[0].label is not None
    first = ["image", *(["label"] if labelled else []), "class"]
    table = table_of(*first, "%", "then", text=first[1:], folded=("image", "then"))
    for each in found:
        (name, value), *others = each.top
        mark = "" if each.label is None or each.right else "[red]"
        then = ", ".join(f"{other} {100 * share:.1f}" for other, share in others)
        label = [escape(each.label)] if each.label is not None else []
        table.add_row(escape(each.image), *label, f"{mark}{escape(name)}", f"{100 * value:.1f}", escape(then))
    screen().print(table)
