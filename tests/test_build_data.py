"""From the section `data` to the images of a run: sources, classes, noise and splits together."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator import build, load_spec
from orchestrator.data import load_dataset
from orchestrator.errors import DataError
from orchestrator.execution.cache import Cache
from orchestrator.execution.job import Job
from orchestrator.execution.session import Session
from orchestrator.search.plan import make_plan

SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet8", "width": 0.125},
    "student": {"model": "resnet8", "width": 0.125},
    "training": {"epochs": 1, "batch_size": 16},
}


def run_spec(**data):
    return make_plan(load_spec(SPEC, {f"data.{name}": value for name, value in data.items()})).arms[0].variant.run


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


NOISE = {"fraction": 0.3, "kind": "symmetric"}


def test_noise_is_in_the_training_labels_of_both_and_nowhere_else(digits):
    clean = build.build_splits(run_spec(), digits, 0)
    noisy = build.build_splits(run_spec(label_noise=NOISE), digits, 0)
    for name in ("train", "teacher_train"):
        with_noise, without = getattr(noisy, name), getattr(clean, name)
        assert torch.equal(with_noise.images, without.images)
        assert int((with_noise.labels != without.labels).sum()) == round(0.3 * len(without))
    assert torch.equal(noisy.val.labels, clean.val.labels)
    assert torch.equal(noisy.val.images, clean.val.images)
    assert noisy.dataset.test is digits.test


def test_a_subset_has_the_same_images_with_noise_and_each_image_one_label(digits):
    options = {"train_samples": 300}
    clean = build.build_splits(run_spec(**options), digits, 0)
    noisy = build.build_splits(run_spec(**options, label_noise=NOISE), digits, 0)
    assert torch.equal(noisy.train.images, clean.train.images)
    wrong = (noisy.train.labels != clean.train.labels).float().mean()
    assert 0.2 < wrong < 0.4
    label = {
        image.numpy().tobytes(): int(number)
        for image, number in zip(noisy.teacher_train.images, noisy.teacher_train.labels, strict=True)
    }
    student = [
        label[image.numpy().tobytes()] == int(number)
        for image, number in zip(noisy.train.images, noisy.train.labels, strict=True)
    ]
    assert all(student)


def test_noise_depends_on_the_seed_of_the_splits_alone(digits):
    first = build.build_splits(run_spec(label_noise=NOISE), digits, 4)
    again = build.build_splits(run_spec(label_noise=NOISE).with_values({"seed": 9}), digits, 4)
    other = build.build_splits(run_spec(label_noise=NOISE), digits, 5)
    assert torch.equal(first.train.labels, again.train.labels)
    clean, other_clean = (build.build_splits(run_spec(), digits, seed).train.labels for seed in (4, 5))
    assert not torch.equal(first.train.labels == clean, other.train.labels == other_clean)


def test_classes_reach_splits_and_networks():
    run = run_spec(classes=[7, "3", 1], label_noise={"fraction": 0.5, "kind": "asymmetric"})
    dataset = build.load_data(run.data)
    assert dataset.classes == ("1", "3", "7")
    splits = build.build_splits(run, dataset, 0)
    clean = build.build_splits(run_spec(classes=[7, "3", 1]), dataset, 0).train.labels
    wrong = splits.train.labels != clean
    assert int(wrong.sum()) == round(len(splits.train) / 2)
    assert torch.equal(splits.train.labels[wrong], (clean[wrong] + 1) % 3)
    assert build.build_network(run.student, dataset, 0).head.out_features == 3


def folder_of_images(root, size):
    random = np.random.default_rng(0)
    for part, each in (("train", 12), ("test", 2)):
        for name in ("a", "b"):
            (root / part / name).mkdir(parents=True)
            for index in range(each):
                file = io.BytesIO()
                Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(file, "PNG")
                (root / part / name / f"{index}.png").write_bytes(file.getvalue())


def test_a_trial_trains_on_a_folder_of_images_and_the_next_finds_them_decoded(tmp_path):
    folder_of_images(tmp_path / "images", 12)
    run = run_spec(dataset="image-folder", root=str(tmp_path / "images"), image_size=8, validation_fraction=0.25)
    content = run.model_dump(exclude_unset=True)

    def metrics(trial):
        job = Job(trial, "teacher", content, 0, str(tmp_path / trial), distils=False, cache=str(tmp_path / "cache"))
        return Session(job, Cache()).train_epoch()

    first = metrics("one")
    (kept,) = (tmp_path / "cache" / "images").glob("image-folder-*.bin")
    written = kept.stat().st_mtime_ns
    assert metrics("two")["train/loss"] == first["train/loss"]
    assert kept.stat().st_mtime_ns == written


def test_a_process_loads_again_what_another_trial_wants_otherwise(tmp_path):
    cache = Cache()
    whole = cache.dataset(run_spec().data)
    assert cache.dataset(run_spec(label_noise=NOISE, train_samples=50).data) is whole
    assert cache.dataset(run_spec(classes=[0, 1]).data).classes == ("0", "1")


def test_what_a_loader_cannot_do_names_the_field():
    with pytest.raises(DataError, match=r"data.image_size is 16, but digits is not resized"):
        build.load_data(run_spec(image_size=16).data)
