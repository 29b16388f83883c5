"""export and predict on an experiment whose final runs have left students, without anything having been trained."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from complete_experiments import leave_students
from experiments_on_disk import plan_of, whole, write
from PIL import Image

from orchestrator import load_spec, names
from orchestrator.analysis.results import Results
from orchestrator.cli import main
from orchestrator.data import load_dataset
from orchestrator.execution.students import student_models
from orchestrator.search.trials import Status
from orchestrator.store.home import Home
from orchestrator.tracking.base import StudentModel

Run = Callable[..., tuple[int, str, str]]
VALIDATION = {"alone": [80.0, 82.0, 81.0], "kd": [85.0, 85.0, 90.0]}
"""By variant and seed: the best student of the best variant, kd, is its last."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("work") / "home")
    plan = plan_of()
    records = whole(plan)
    for record in records:
        if "-final-" in record.trial.id:
            record.metrics["val/acc1"] = VALIDATION[record.trial.variant][record.trial.index]
    leave_students(write(home, plan, records), plan, [record.trial for record in records])
    return home


@pytest.fixture
def run(made: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([*map(str, arguments), "--home", str(made.path)])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A folder of three test images, one of them in a folder of its own."""
    images = load_dataset("digits").test.images
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "more/c.png")):
        Image.fromarray(images[number, 0].numpy()).save(folder / name)
    return folder


def test_the_best_student_by_validation_is_written_with_its_card(run: Run, made: Home, tmp_path: Path) -> None:
    code, out, err = run("export", "tiny")
    assert (code, err) == (0, "")
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"{plan_of().spec.id}-kd"
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "model.safetensors"]
    assert "kd: kd-final-3, seed 3, val/acc1 90.00" in out
    assert "same class for 64" in out
    weights = made.experiment(plan_of().spec).trial("kd-final-3").weights
    assert (folder / "model.safetensors").read_bytes() == weights.read_bytes()

    card = (folder / "README.md").read_text()
    assert card.startswith("# tiny, kd: resnet8 for digits\n")
    assert "| test/acc1 (%) | 82.00 | 81.00 ± 1.00 | 78.52 to 83.48 | 3 |" in card
    assert "grey images of 8 x 8 pixels" in card
    assert "float32 [batch, 1, 8, 8]" in card
    assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in card
    assert "60 training images of digits" in card
    assert "- resnet14, trained before the search, once for all trials, 99.00 % on validation images" in card
    assert "`kd-final-3`, seed 3" in card
    assert "largest difference of 64 images' logits" in card
    # What it shows of the spec can be read by a program, and the teacher that it offers is one.
    sections = [yaml.safe_load(block.partition("```")[0]) for block in card.split("```yaml\n")[1:]]
    assert {name for section in sections for name in section} == {
        "data",
        "teacher",
        "student",
        "scheme",
        "distillation",
        "training",
    }
    shown = card.partition("The same file is a teacher for other experiments: `")[2].partition("`")[0]
    load_spec({**yaml.safe_load(shown), "name": "next", "data": {"dataset": "digits"}, "student": {"model": "resnet8"}})


def test_others_are_written_where_they_are_asked_for(run: Run, tmp_path: Path) -> None:
    assert run("export", "--variant", "alone", "--output", tmp_path / "a" / "b")[0] == 0
    assert run("export", "--variant", "alone", "--seed", 1, "--output", "seed")[1].startswith("alone: alone-final-1")
    assert run("export", "--trial", "kd-final-1", "--output", "trial")[1].startswith("kd: kd-final-1, seed 1")
    assert "None: it learnt from labels." in (tmp_path / "a" / "b" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--variant", "kdd"], "there is no variant kdd with a trained student; did you mean 'kd'?"),
        (["--variant", "kd", "--seed", "9"], "there is no final run of kd with the seed 9"),
        (["--trial", "kd-000"], "there is no final run kd-000"),
        (["--trial", "kd-final-1", "--seed", "2"], "kd-final-1 has the seed 1, not 2"),
        (["--format", "onxx"], "onxx"),
    ],
)
def test_what_does_not_exist_is_refused(run: Run, tmp_path: Path, arguments: list[str], told: str) -> None:
    code, out, err = run("export", "tiny", *arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert not list(tmp_path.iterdir())


def test_programs_are_told_what_was_written(run: Run, made: Home) -> None:
    told = json.loads(run("export", "tiny", "--output", "mine", "--json", "--format", "safetensors")[1])
    assert (told["id"], told["variant"], told["trial"], told["seed"]) == (plan_of().spec.id, "kd", "kd-final-3", 3)
    (file,) = told["files"]
    assert (file["format"], file["path"], file["same_class"]) == ("safetensors", "mine/model.safetensors", 64)
    assert file["difference"] <= 1e-5 * file["largest"]
    assert file["bytes"] == Path(file["path"]).stat().st_size
    code, out, _ = run("export", "tiny", "--output", "mine", "--json")
    assert (code, json.loads(out)["error"]["kind"]) == (2, "UsageError")
    assert run("export", "tiny", "--output", "quiet", "--quiet")[1] == "quiet\n"


def test_a_student_whose_file_is_damaged_leaves_its_rank_empty(tmp_path: Path) -> None:
    home, checkpoint = Home(tmp_path / "home"), "/home/somebody/secret-project/ckpt.pth"
    plan = plan_of(search__final_seeds=1, teacher__checkpoint=checkpoint)
    folder, records = home.experiment(plan.spec), whole(plan, with_teacher=False)
    write(home, plan, records)
    leave_students(folder, plan, [record.trial for record in records])

    def models() -> list[StudentModel]:
        results = Results(plan.spec, {record.trial.id: record for record in records})
        return student_models(results, plan, home, folder, {})[0]

    best, other = models()
    assert (best.rank, other.rank) == (0, 1)
    # The card leads to its own student, and tells nothing of the folders of who made it.
    taught = best if best.name == "kd" else other
    assert taught.card.count(names.MODEL_ADDRESS) == 2
    assert "from `ckpt.pth`" in taught.card
    assert "checkpoint: ckpt.pth" in taught.card
    assert "secret-project" not in taught.card
    best.weights.write_bytes(b"torn")
    (left,) = models()
    assert (left.name, left.rank) == (other.name, 1)


def test_an_export_is_not_written_over_unless_that_is_asked_for(run: Run, tmp_path: Path) -> None:
    assert run("export", "--output", "mine")[0] == 0
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    code, _, err = run("export", "--output", "mine", "--variant", "alone")
    assert (code, "mine has README.md and model.safetensors already" in err) == (2, True)
    assert run("export", "--output", "mine", "--variant", "alone", "--overwrite")[0] == 0
    assert "tiny, alone" in (tmp_path / "mine" / "README.md").read_text()
    assert (tmp_path / "mine" / "notes.txt").read_text() == "kept"


def test_an_experiment_without_final_runs_has_no_student(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, plan = Home(tmp_path / "other"), plan_of(search__final_seeds=0)
    write(home, plan, whole(plan))
    with pytest.raises(SystemExit):
        main(["export", "tiny", "--home", str(home.path)])
    err = capsys.readouterr().err
    assert "has no trained student: search.final_seeds is 0" in err
    assert f"orchestrator extend {plan.spec.id} --final-seeds 1" in err
    # One whose weights somebody has removed.
    plan = plan_of(name="gone")
    write(home, plan, [record for record in whole(plan) if record.status is Status.FINISHED])
    with pytest.raises(SystemExit):
        main(["export", "gone", "--home", str(home.path)])
    assert "has left no student: there is no file" in capsys.readouterr().err


def test_students_of_a_home_in_a_bucket_are_brought_here(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, plan = Home(f"{s3}/home"), plan_of(search__final_seeds=1)
    records = whole(plan)
    leave_students(write(home, plan, records), plan, [record.trial for record in records])
    assert home.remote is not None
    for weights in home.experiment(plan.spec).students:
        home.remote.push(weights)
    shutil.rmtree(home.path)
    monkeypatch.chdir(tmp_path)
    for command in (["export", "tiny", "--output", "out"], ["predict", "tiny/alone", "--test", "--format", "csv"]):
        with pytest.raises(SystemExit) as caught:
            main([*command, "--home", f"{s3}/home"])
        assert caught.value.code == 0, capsys.readouterr().err
    assert len(capsys.readouterr().out.splitlines()) > 300
    assert (tmp_path / "out" / "model.safetensors").exists()


# predict


def test_images_are_told_in_every_format_by_an_exported_folder(run: Run, digits: Path) -> None:
    assert run("export", "--output", "kd", "--format", "torch-export", "--format", "safetensors")[0] == 0
    answers = {}
    for model in ("kd", "kd/model.pt2", "tiny/kd", "tiny"):
        code, out, err = run("predict", model, digits, "--top", 2, "--format", "json", "--batch-size", 2)
        assert (code, err) == (0, "")
        answers[model] = json.loads(out)["predictions"]
    first = answers["kd"]
    assert [Path(each["image"]).name for each in first] == ["a.png", "b.png", "c.png"]
    for model, found in answers.items():
        assert [each["top"][0]["class"] for each in found] == [each["top"][0]["class"] for each in first], model
        for each, other in zip(found, first, strict=True):
            assert each["top"][0]["probability"] == pytest.approx(other["top"][0]["probability"], abs=1e-5)
    assert first[0]["top"][0]["probability"] >= first[0]["top"][1]["probability"]

    rows = list(csv.DictReader(io.StringIO(run("predict", "kd", digits / "a.png", "--format", "csv")[1])))
    assert list(rows[0]) == ["image", *(f"{name}_{n}" for n in (1, 2, 3) for name in ("class", "probability"))]
    assert rows[0]["class_1"] == first[0]["top"][0]["class"]
    table = run("predict", "kd", digits)[1]
    assert "more/c.png" in table.replace("\n", "")


def test_test_images_are_told_with_what_is_right(run: Run) -> None:
    found = json.loads(run("predict", "tiny/alone", "--test", "--format", "json")[1])
    right = sum(each["top"][0]["class"] == each["label"] for each in found["predictions"])
    assert found["images"] == len(load_dataset("digits").test)
    assert found["test/acc1"] == pytest.approx(100 * right / found["images"])
    assert run("export", "--variant", "alone", "--output", "alone")[0] == 0
    out = run("predict", "alone", "--test")[1]
    assert f"{found['test/acc1']:.2f} % of {found['images']} test images of digits are right." in out
    assert len(out.splitlines()) < 30


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "give either IMAGES or --test"),
        (["images", "--test"], 2, "give either IMAGES or --test"),
        (["nowhere"], 2, "there is no file or folder nowhere"),
        (["empty"], 2, "there are no images in empty"),
        (["large.png"], 1, "large.png is 16 x 8 pixels, but the student takes grey images of 8 x 8 pixels"),
        (["text.png"], 1, "text.png is not an image that can be read"),
    ],
)
def test_what_is_no_image_for_it_is_told(
    run: Run, digits: Path, tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(tmp_path / "large.png")
    found, out, err = run("predict", "tiny/kd", *arguments)
    assert (found, out) == (code, "")
    assert told in err


def test_images_of_another_size_or_colour_are_fitted_when_that_is_asked_for(run: Run, digits: Path) -> None:
    image = Image.open(digits / "a.png")
    image.convert("RGB").save(digits / "colour.png")
    image.resize((24, 16), Image.Resampling.NEAREST).save(digits / "wide.png")
    code, out, _ = run("predict", "tiny/kd", digits / "colour.png", digits / "wide.png", "--resize", "--format", "csv")
    assert (code, len(out.splitlines())) == (0, 3)
    plain = run("predict", "tiny/kd", digits / "a.png", "--format", "csv")[1].splitlines()[1].split(",")[1:]
    assert out.splitlines()[1].split(",")[1:] == plain


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("gone", "there is no file gone, and there is no experiment 'gone'"),
        ("images", "images is a folder without an exported student"),
        ("tiny/kdd", "there is no variant kdd"),
        ("images/a.png", "is no exported student: its name ends in none of"),
    ],
)
def test_what_is_no_model_is_told(run: Run, digits: Path, model: str, told: str) -> None:
    code, _, err = run("predict", model, digits)
    assert (code, told in err) == (2, True), err


def test_a_damaged_export_is_told(run: Run, digits: Path, made: Home, tmp_path: Path) -> None:
    weights = made.experiment(plan_of().spec).trial("kd-final-1").weights
    shutil.copy(weights, tmp_path / "cut.safetensors")
    with (tmp_path / "cut.safetensors").open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)
    code, _, err = run("predict", "cut.safetensors", digits)
    assert (code, "cut.safetensors cannot be read as safetensors" in err) == (1, True)
