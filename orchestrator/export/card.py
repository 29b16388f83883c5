"""The model card of a student, in Markdown: what it is, how to use it, how good it is, and what it was not tried on."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from orchestrator import names
from orchestrator.analysis.formats import format_changes, format_interval
from orchestrator.analysis.results import Results
from orchestrator.analysis.rows import markdown_table
from orchestrator.analysis.students import TrainedStudent
from orchestrator.export.blueprint import Blueprint, Format
from orchestrator.search.teachers import Source
from orchestrator.search.trials import Record
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.scheme import Mutual

PAGE = "https://arxiv.org/abs/1911.07471"
WEAKEST = 3
"""Classes that are named as the ones it does worst on."""
_USE = {
    Format.SAFETENSORS: """
```python
import torch
from orchestrator.export.student import load_student  # needs torch, safetensors and this package

student = load_student("model.safetensors")
with torch.inference_mode():
    probabilities = student(images).softmax(1)
```

The same file is a teacher for other experiments: `teacher: {{{teacher}, checkpoint: model.safetensors}}`.
""",
    Format.TORCH_EXPORT: """
```python
import torch  # alone; a .pt2 file is read by way of pickle, so take it only from who you trust

student = torch.export.load("model.pt2").module()
with torch.inference_mode():
    probabilities = student(images).softmax(1)
```
""",
    Format.ONNX: """
```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(["logits"], {{"images": images}})  # images as an array of numpy
```
""",
}
_REGISTERED = """
```python
import mlflow  # with this package installed, whose module `orchestrator.export.serving` loads the weights

student = mlflow.pyfunc.load_model("{address}")
logits = student.predict(images)  # an array of numpy
```

The same is a teacher for other experiments: `teacher: {{{teacher}, checkpoint: "{address}"}}`. The best
of all variants' students is `models:/{name}@champion`, whichever that is by then.
"""


def model_card(
    results: Results,
    run: RunSpec,
    student: TrainedStudent,
    blueprint: Blueprint,
    teachers: Sequence[tuple[Source, float | None]] = (),
    *,
    exported: Mapping[Format, str] | None = None,
    classes: str = "",
    environment: Mapping[str, Any] | None = None,
) -> str:
    """The card of one student.

    Args:
        results: of its experiment.
        run: the resolved spec of its final run.
        student: the run, and what it was chosen among.
        blueprint: what its file tells.
        teachers: what it learnt from, each with its validation accuracy in percent where that is known.
        exported: what it was written as, each with what the check found; None for a student in MLflow's registry,
            whose address `names.MODEL_ADDRESS` stands for.
        classes: the text of its trial's classes.csv.
        environment: what its experiment was last run with.
    """
    record = student.record
    parts = [
        f"# {results.spec.name}, {student.variant.name}: {_name(run)} for {blueprint.dataset}",
        _introduction(run, student, blueprint),
        _figures(student),
        "## Use",
        f"It takes {blueprint.takes}, float32 [batch, {', '.join(map(str, blueprint.image))}] with pixels divided by "
        "255 and nothing else: the normalisation is inside. It gives logits, float32 "
        f"[batch, {len(blueprint.classes)}]; softmax makes them probabilities. Any batch size will do.",
        _resizing(blueprint),
        *_usage(results, run, exported),
        f"The classes, in the order of the logits: {', '.join(blueprint.classes)}.",
        "## Data",
        _data(run, blueprint),
        # The folder is of the machine that trained it, and its name may tell more than is meant to be told.
        _section({"data": run.data.model_dump(exclude_none=True, exclude={"root", "download", "verify"})}),
        "## Teacher",
        *_teachers(run, teachers),
        "## Method",
        _method(run),
        _section(
            {
                name: getattr(run, name).model_dump(exclude_none=True)
                for name in ("student", "scheme", "distillation", "training")
            }
        ),
        f"Searched: {format_changes(record.trial.params, record.made) or 'nothing'}. These values won by "
        f"{student.metric} among {sum(student.variant.statuses.values())} trials.",
        "## Accuracy",
        _accuracy(results, student),
        "## Limits",
        *_limits(run, student, blueprint, classes),
        "## Where it comes from",
        _origin(results, record, teachers, environment or {}),
    ]
    return "\n\n".join(filter(None, (part.strip("\n") for part in parts))) + "\n"


def summary(student: TrainedStudent) -> str:
    """A student's figures in one line."""
    test = student.variant.test
    over = "" if test is None else f"; test acc1 {test} % over {test.count} seeds of {student.variant.name}"
    own = student.record.metrics.get(names.TEST_ACC1)
    mine = "" if own is None else f", test acc1 {own:.2f} %"
    return f"{student.record.trial.id}: {student.metric} {student.value:.2f}{mine}{over}"


def _introduction(run: RunSpec, student: TrainedStudent, blueprint: Blueprint) -> str:
    size = student.record.described.get("student.parameters")
    large = f" of {size:,.0f} parameters" if size else ""
    taught = " by knowledge distillation" if run.needs_teacher else ""
    return (
        f"A {_name(run)}{large} that tells {len(blueprint.classes)} classes of {blueprint.takes} apart, "
        f"trained{taught} on {blueprint.dataset}."
    )


def _figures(student: TrainedStudent) -> str:
    record, variant = student.record, student.variant
    rows = []
    for name, of in ((names.TEST_ACC1, variant.test), (names.VAL_ACC1, variant.val)):
        own = record.metrics.get(name)
        rows.append(
            [
                f"{name} (%)",
                "-" if own is None else f"{own:.2f}",
                str(of or "-"),
                format_interval(of.interval if of else None),
                str(of.count if of else 0),
            ]
        )
    return markdown_table((["", "this student", "all seeds (mean ± sd)", "95% interval", "seeds"], rows))


def _usage(results: Results, run: RunSpec, exported: Mapping[Format, str] | None) -> list[str]:
    teacher = ", ".join(f"{k}: {v}" for k, v in run.student.model_dump(exclude_defaults=True).items())
    if exported is None:
        return [_REGISTERED.format(address=names.MODEL_ADDRESS, name=results.id, teacher=teacher)]
    parts = []
    for format, found in exported.items():
        parts += [f"### {format.file}", _USE[format].format(teacher=teacher), f"Checked when it was written: {found}."]
    return parts


def _resizing(blueprint: Blueprint) -> str:
    if blueprint.image_size is None:
        return ""
    return (
        f"Image files were resized for it: bicubic, the shorter side to {blueprint.image_size} pixels, then the "
        "centre. `orchestrator predict` does the same."
    )


def _data(run: RunSpec, blueprint: Blueprint) -> str:
    data = run.data
    count = data.training_images()
    images = f"{count} training images" if count else "the training images"
    noise = f", {100 * data.label_noise.fraction:g} % of their labels made wrong on purpose" if data.label_noise else ""
    return (
        f"{images[0].upper()}{images[1:]} of {blueprint.dataset}{noise}; {100 * data.validation_fraction:g} % of the "
        "training set were held out to choose on. The test set was read once for each final run."
    )


def _teachers(run: RunSpec, teachers: Sequence[tuple[Source, float | None]]) -> list[str]:
    if not teachers:
        return ["None: it learnt from its peers." if isinstance(run.scheme, Mutual) else "None: it learnt from labels."]
    lines = []
    for source, accuracy in teachers:
        known = "" if accuracy is None else f", {accuracy:.2f} % on validation images"
        made = (
            f"from `{_file(source.checkpoint)}`"
            if source.checkpoint
            else "trained before the search, once for all trials"
        )
        lines.append(f"- {source.model.model}, {made}{known}")
    section = run.teacher.model_dump(exclude_none=True) if run.teacher else {}
    if run.teacher and run.teacher.checkpoint:
        section["checkpoint"] = _file(run.teacher.checkpoint)
    return ["\n".join(lines), _section({"teacher": section})]


def _file(checkpoint: str) -> str:
    """A checkpoint without the folder or bucket that it lies in; names in a registry and of torchvision as they are."""
    return checkpoint if re.match(r"[\w-]+:(?!//)", checkpoint) else PurePath(checkpoint).name


def _method(run: RunSpec) -> str:
    given, lines = run.distillation, []
    if given.temperature.method in ("flsw", "cwsm") and given.kd_weight:
        lines.append(f"Dynamic temperatures (DTD, {given.temperature.method}; {PAGE})")
    if given.adjustment.rule != "none" and given.kd_weight:
        lines.append(f"adjusted teacher targets (LA, {given.adjustment.rule}; {PAGE})")
    lead = "The sections of its run:"
    told = " and ".join(lines)
    return f"{told[0].upper()}{told[1:]}. {lead}" if told else lead


def _accuracy(results: Results, student: TrainedStudent) -> str:
    rows = []
    for other in results.variants:
        interval = format_interval(other.test.interval if other.test else None)
        name = f"**{other.name}**" if other.name == student.variant.name else other.name
        rows.append([name, str(len(other.finals)), str(other.test or "-"), interval])
    table = markdown_table((["variant", "seeds", "test acc1 % (mean ± sd)", "95% interval"], rows))
    seeds = ", ".join(f"{seed}: {accuracy:.2f}" for seed, accuracy in student.variant.by_seed.items())
    return f"{table}\n\nBy seed (%): {seeds}."


def _limits(run: RunSpec, student: TrainedStudent, blueprint: Blueprint, classes: str) -> list[str]:
    record, count = student.record, len(student.variant.finals)
    lines = [
        f"It was tried on test images of {blueprint.dataset} alone. It answers for any image, with one of its "
        f"{len(blueprint.classes)} classes, also where none is right.",
        f"It is the best of {count} seeds by {student.metric}; what another training would give is told by the mean "
        "and its spread, not by its own figures."
        if count > 1
        else "One seed was trained, so its spread is not known.",
    ]
    if (ece := record.metrics.get(names.TEST_ECE)) is not None:
        lines.append(f"Its confidence is off by {ece:.1f} percentage points on average (test/ece).")
    if weakest := _weakest(classes):
        lines.append(f"It is weakest on {weakest} (share of the class's test images that it gets right).")
    if str(record.described.get(names.PRECISION)) == "bf16":
        lines.append("It was trained and tested in bf16 and is handed on in float32, which may move single answers.")
    return ["\n".join(f"- {line}" for line in lines)]


def _weakest(classes: str) -> str:
    rows = [row for row in csv.DictReader(io.StringIO(classes)) if row.get("acc1")]
    rows.sort(key=lambda row: float(row["acc1"]))
    return ", ".join(f"{row['class']} ({float(row['acc1']):.0f} %)" for row in rows[:WEAKEST])


def _origin(
    results: Results,
    record: Record,
    teachers: Sequence[tuple[Source, float | None]],
    environment: Mapping[str, Any],
) -> str:
    keys = ", ".join(f"`{source.key}`" for source, _ in teachers if source.key)
    rows = [
        ["experiment", f"`{results.id}` (spec hash `{results.spec.hash}`)"],
        ["trial", f"`{record.trial.id}`, seed {record.trial.seed}, {record.epochs} epochs"],
        *([["teacher", keys]] if keys else []),
        *([name, f"`{environment[name]}`"] for name in ("git_commit", "python", "torch") if environment.get(name)),
        ["repeat", "`orchestrator run spec.yaml`, with the experiment's `spec.yaml`"],
    ]
    return markdown_table((["", ""], rows))


def _name(run: RunSpec) -> str:
    width = f" of width {run.student.width:g}" if run.student.width != 1 else ""
    return f"{run.student.model}{width}"


def _section(content: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in content.items() if value}
    return f"```yaml\n{yaml.safe_dump(shown, sort_keys=False).rstrip()}\n```" if shown else ""
