"""A student written in every format, read back, and compared with the network as trials evaluate it."""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import pytest
import torch
from student_files import BLUEPRINT, save_student

from orchestrator.data import load_dataset
from orchestrator.errors import CheckpointError, OrchestratorError, RegistryError, UsageError
from orchestrator.export import formats
from orchestrator.export.blueprint import Blueprint, Format
from orchestrator.export.check import check, noise
from orchestrator.export.formats import load, write
from orchestrator.export.student import load_student
from orchestrator.training import load_weights, predict_logits, save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("trial") / "student.safetensors"
    save_student(path)
    return path


@pytest.fixture(scope="module")
def student(weights):
    return load_student(weights)


@pytest.mark.parametrize("format", list(Format))
def test_what_is_written_answers_as_the_student_did_in_its_trial(format, student, weights, tmp_path):
    if format is Format.ONNX:
        pytest.importorskip("onnx")
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    path = write(student, weights, tmp_path, format)
    assert [file.name for file in tmp_path.iterdir()] == [format.file]
    exported = load(path)
    assert exported.blueprint == BLUEPRINT
    found = check(student, exported.logits, path.name)
    assert found.same_class == found.images == 64
    assert found.difference < 1e-5 * found.largest
    # The check itself, against the code that gives the accuracies of an experiment.
    images = load_dataset("digits").test.images[:5]
    expected = predict_logits(
        student.network, images, BLUEPRINT.mean, BLUEPRINT.std, batch_size=5, device=torch.device("cpu")
    )
    with torch.inference_mode():
        for batch in (1, 5):
            torch.testing.assert_close(exported.logits(images[:batch].float() / 255), expected[:batch])


def test_a_program_of_torch_needs_nothing_of_this_package(student, weights, tmp_path):
    path = write(student, weights, tmp_path, Format.TORCH_EXPORT)
    code = (
        "import json, sys, torch\n"
        f"logits = torch.export.load({str(path)!r}).module()(torch.full((4, 1, 8, 8), 0.5))\n"
        "print(json.dumps([list(logits.shape), 'orchestrator' in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout) == [[4, 10], False]


def test_a_student_of_another_shape_and_network(tmp_path):
    settings = {"name": "shufflenet_v2", "width": 0.25, "norm": "group", "stem_stride": 2, "small_images": False}
    save_student(
        tmp_path / "s.safetensors",
        network=settings,
        image=(3, 32, 24),
        mean=(0.1, 0.5, 0.9),
        std=(0.2, 0.3, 0.1),
        classes=("cat", "dog"),
    )
    student = load_student(tmp_path / "s.safetensors")
    assert student(torch.rand(2, 3, 32, 24)).shape == (2, 2)
    path = write(student, tmp_path / "s.safetensors", tmp_path, Format.TORCH_EXPORT)
    assert check(student, load(path).logits, path).same_class == 64


def test_wrong_outputs_are_refused(student):
    images = noise(BLUEPRINT, 2)
    assert torch.equal(images, noise(BLUEPRINT, 2))
    with torch.inference_mode():
        assert check(student, student, "right").difference < 1e-4
        with pytest.raises(OrchestratorError, match=r"wrong\.onnx does not give what the student gives"):
            check(student, lambda batch: student(batch) + 0.01 * torch.arange(10), "wrong.onnx")
        with pytest.raises(OrchestratorError, match="does not give what the student gives"):
            check(student, lambda batch: student(batch) * float("nan"), "nan")
        with pytest.raises(OrchestratorError, match="fixed cannot be run"):
            check(student, lambda batch: student(batch.reshape(2, 1, 8, 8)), "fixed")


def test_a_network_that_cannot_be_written_is_told_with_what_helps(student, weights, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("data-dependent\nand more")

    monkeypatch.setattr(torch.export, "export", refuse)
    with pytest.raises(
        OrchestratorError, match="resnet8 cannot be written as torch-export: data-dependent\n"
    ) as caught:
        write(student, weights, tmp_path, Format.TORCH_EXPORT)
    assert "safetensors" in caught.value.hint


def test_missing_packages_are_told_with_how_to_install_them(student, weights, tmp_path, monkeypatch):
    here = importlib.util.find_spec
    monkeypatch.setattr(
        formats.importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else here(name)
    )
    with pytest.raises(UsageError, match="the format onnx needs onnx and onnxscript") as caught:
        write(student, weights, tmp_path, Format.ONNX)
    assert "[onnx]" in caught.value.hint
    with pytest.raises(UsageError, match="the format onnx needs onnxruntime"):
        load(tmp_path / "model.onnx")


@pytest.mark.parametrize("format", list(Format))
def test_files_that_are_none_are_refused_by_name(format, tmp_path):
    if format is Format.ONNX:
        pytest.importorskip("onnxruntime")
    path = tmp_path / format.file
    with pytest.raises(CheckpointError, match=str(path)):
        load(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=str(path)):
        load(path)


def test_files_of_other_kinds_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"ends in none of \.safetensors, \.onnx, \.pt2"):
        load(tmp_path / "model.bin")


def test_weights_without_a_blueprint_are_told_from_a_student(student, tmp_path):
    save_weights(tmp_path / "bare.safetensors", student.network, {})
    with pytest.raises(CheckpointError, match=r"bare\.safetensors does not tell what its network takes"):
        load_student(tmp_path / "bare.safetensors")


def test_the_exported_weights_are_a_checkpoint(student, weights, tmp_path):
    path = write(student, weights, tmp_path, Format.SAFETENSORS)
    again = load_student(tmp_path)
    network = load_student(weights).network
    assert load_weights(path, network)["trial"] == "kd-final-0"
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(again(images), student(images))


# Blueprints


def changed(**values):
    return json.dumps({**json.loads(BLUEPRINT.to_text()), **values})


def test_a_blueprint_is_read_as_it_was_written():
    for blueprint in (BLUEPRINT, dataclasses.replace(BLUEPRINT, image_size=8, classes=("a, b", 'c"'))):
        assert Blueprint.from_text(blueprint.to_text(), "x") == blueprint


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "does not tell what its network takes"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        (changed(mean=["much"]), "cannot be read"),
        (changed(image=[1, 8]), "contradicts itself about the images"),
        (changed(image=[3, 8, 8]), "contradicts itself about the images"),
        (changed(std=[0.0]), "a deviation that is not above 0"),
        (changed(classes=[]), "has no classes"),
    ],
)
def test_a_blueprint_that_makes_no_sense_is_refused(text, told):
    with pytest.raises(CheckpointError, match=f"file.*{told}"):
        Blueprint.from_text(text, "file")


def test_a_network_that_is_not_known_here(tmp_path):
    blueprint = save_student(tmp_path / "s.safetensors")
    student = load_student(tmp_path / "s.safetensors")
    for network, error, told in (
        ({**blueprint.network, "name": "my_network"}, RegistryError, "my_network"),
        ({**blueprint.network, "depth": 3}, CheckpointError, "its network cannot be built.*depth"),
        ({**blueprint.network, "width": 0.5}, CheckpointError, "does not fit the model"),
    ):
        text = dataclasses.replace(blueprint, network=network).to_text()
        save_weights(tmp_path / "other.safetensors", student.network, {"blueprint": text})
        with pytest.raises(error, match=told):
            load_student(tmp_path / "other.safetensors")
