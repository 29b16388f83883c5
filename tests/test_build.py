"""From spec sections to torch objects."""

import pytest
import torch
from torch import optim

from orchestrator import build, load_spec
from orchestrator.build.seeds import Stream, stream_seed
from orchestrator.catalog import DATASET_FACTS, TEMPERATURES
from orchestrator.data import load_dataset
from orchestrator.data.policy import RandAugment, TrivialAugment
from orchestrator.distillation import adjustment, temperature
from orchestrator.errors import CheckpointError, DataError
from orchestrator.search.plan import make_plan
from orchestrator.spec.distillation import DistillationSpec
from orchestrator.spec.experiment import RunSpec

SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14", "width": 0.25},
    "student": {"model": "resnet8", "width": 0.125},
    "training": {"epochs": 8},
}


def run_spec(**overrides) -> RunSpec:
    values = {name.replace("__", "."): value for name, value in overrides.items()}
    return make_plan(load_spec(SPEC, values)).arms[0].variant.run


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def student_run(digits, split_seed=0, teacher=None, **overrides):
    spec = run_spec(**{"distillation": {"kd_weight": 0.0}, **overrides})
    return build.build_student_run(spec, build.build_splits(spec, digits, split_seed), teacher)


def criterion(**sections):
    return build.build_criterion(DistillationSpec.model_validate(sections))


def test_weights_reach_the_criterion():
    made = criterion(ce_weight=0.25, kd_weight=1.5)
    assert (made.ce_weight, made.kd_weight) == (0.25, 1.5)


def test_a_constant_temperature_reaches_the_criterion():
    made = criterion(temperature={"method": "constant", "base": 2.5}).temperature
    assert type(made) is temperature.ConstantTemperature
    assert (made.base, made.bounds) == (2.5, (2.5, 2.5))


def test_flsw_reaches_the_criterion():
    values = {"base": 3.0, "beta": 7.0, "min": 2.0, "max": 9.0}
    made = criterion(
        temperature={
            "method": "flsw",
            **values,
            "gamma": 0.5,
            "normalize": "softmax",
            "divide_by_mean": True,
        }
    ).temperature
    assert type(made) is temperature.FLSWTemperature
    assert (made.base, made.beta, made.bounds) == (3.0, 7.0, (2.0, 9.0))
    assert (made.gamma, made.normalize, made.divide_by_mean) == (0.5, "softmax", True)


def test_cwsm_reaches_the_criterion():
    made = criterion(
        temperature={
            "method": "cwsm",
            "base": 3.0,
            "beta": 7.0,
            "min": 2.0,
            "max": 9.0,
            "divide_by_mean": True,
        }
    ).temperature
    assert type(made) is temperature.CWSMTemperature
    assert (made.base, made.beta, made.bounds, made.divide_by_mean) == (3.0, 7.0, (2.0, 9.0), True)


@pytest.mark.parametrize(
    ("section", "kind", "attributes"),
    [
        ({"rule": "none"}, adjustment.NoAdjustment, {}),
        ({"rule": "probability_shift"}, adjustment.ProbabilityShift, {}),
        ({"rule": "label_smoothing", "epsilon": 0.3}, adjustment.LabelSmoothing, {"epsilon": 0.3}),
    ],
)
def test_adjustments_reach_the_criterion(section, kind, attributes):
    made = criterion(adjustment=section).adjustment
    assert type(made) is kind
    assert {name: getattr(made, name) for name in attributes} == attributes


def test_the_sections_that_are_left_out_are_those_of_the_spec():
    made = criterion()
    assert (made.ce_weight, made.kd_weight) == (0.1, 0.9)
    assert type(made.temperature) is temperature.ConstantTemperature
    assert made.temperature.base == 4.0
    assert type(made.adjustment) is adjustment.NoAdjustment


class Ramp(temperature.Temperature):
    """A plugin: the temperature rises along the batch."""

    def __init__(self, start, step):
        super().__init__(start, start, 100.0)
        self.step = step

    def unclamped(self, logits_student, logits_teacher, global_mean):
        return self.base + self.step * torch.arange(len(logits_student), dtype=torch.float32)


def test_a_plugins_temperature_works_from_the_spec_to_the_loss(monkeypatch):
    monkeypatch.setattr(TEMPERATURES, "_entries", dict(TEMPERATURES._entries))
    TEMPERATURES.register("ramp")(Ramp)
    section = {"method": "ramp", "options": {"start": 2.0, "step": 0.5}}
    spec = run_spec(distillation__temperature=section)
    assert spec.distillation.temperature.model_dump() == section
    made = build.build_criterion(spec.distillation)
    student, teacher = torch.randn(4, 10), torch.randn(4, 10)
    output = made(student, teacher, torch.tensor([0, 1, 2, 3]))
    assert output.temperature.tolist() == [2.0, 2.5, 3.0, 3.5]
    assert output.loss_kd > 0


@pytest.mark.parametrize(
    ("section", "kind", "group"),
    [
        # The recipe of the KD literature, as its public code has it.
        ({}, optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4, "dampening": 0}),
        (
            {"method": "sgd", "lr": 0.07, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
            optim.SGD,
            {"lr": 0.07, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
        ),
        (
            {"method": "adamw", "lr": 0.002, "weight_decay": 0.05},
            optim.AdamW,
            {"lr": 0.002, "weight_decay": 0.05},
        ),
    ],
)
def test_optimizers_take_their_section(digits, section, kind, group):
    made = student_run(digits, training__optimizer=section)
    assert type(made.optimizer) is kind
    (only,) = made.optimizer.param_groups
    assert {name: only[name] for name in group} == group
    assert {id(p) for p in only["params"]} == {id(p) for p in made.student.parameters()}


@pytest.mark.parametrize(
    ("section", "factors"),
    [
        ({"method": "constant"}, {0.0: 1.0, 7.9: 1.0}),
        ({"method": "constant", "warmup_epochs": 2.0}, {1.0: 0.5, 3.0: 1.0}),
        ({"method": "step", "milestones": [2.0, 4.0], "gamma": 0.5}, {1.9: 1.0, 2.0: 0.5, 5.0: 0.25}),
        ({"method": "step"}, {4.9: 1.0, 5.0: 0.1, 6.0: 0.01, 7.0: 0.001}),
        ({"method": "cosine", "min_factor": 0.2}, {0.0: 1.0, 4.0: 0.6, 8.0: 0.2}),
    ],
)
def test_schedules_take_their_section_and_the_epochs(digits, section, factors):
    made = student_run(digits, training__schedule=section)
    assert {at: pytest.approx(made.schedule(at)) for at in factors} == factors


def test_settings_reach_the_loop(digits):
    training = {"epochs": 5, "batch_size": 17, "precision": "bf16", "gradient_clip": 2.5}
    made = student_run(digits, training=training, seed=3, data__augmentation="none")
    settings = made.settings
    assert (settings.epochs, settings.batch_size, settings.seed) == (5, 17, 3)
    assert (settings.precision, settings.gradient_clip) == ("bf16", 2.5)
    assert (made.data.mean, made.data.std) == (digits.mean, digits.std)
    assert (made.data.augmentation.crop_padding, made.data.augmentation.flip) == (0, False)
    standard = student_run(digits).data.augmentation
    assert (standard.crop_padding, standard.flip) == (digits.crop_padding, digits.flip)


def test_networks_take_their_section_and_fit_the_data(digits):
    spec = run_spec(student={"model": "resnet14", "width": 0.5, "norm": "group", "stem_stride": 2})
    network = build.build_network(spec.student, digits, seed=0)
    assert network.stem[0].in_channels == 1
    assert network.stem[0].stride == (2, 2)
    assert (network.stem[0].out_channels, network.head.out_features) == (8, 10)
    assert len(network.stages) == 6
    assert isinstance(network.stem[1], torch.nn.GroupNorm)
    teacher = build.build_teacher(run_spec(), digits)
    assert (len(teacher.stages), teacher.stem[0].out_channels) == (6, 4)


def test_the_teachers_own_training_makes_the_teacher(digits):
    spec = run_spec(teacher__training={"epochs": 3, "optimizer": {"lr": 0.3}}, teacher__train_samples=50)
    splits = build.build_splits(spec, digits, 0)
    made = build.build_teacher_run(spec, splits, trial="teacher")
    assert (made.settings.epochs, made.optimizer.param_groups[0]["lr"]) == (3, 0.3)
    assert len(made.data.train) == 50
    assert not made.criterion.needs_teacher
    student = build.build_student_run(spec, splits, build.build_teacher(spec, digits))
    assert (student.settings.epochs, len(student.data.train)) == (8, len(splits.train))


def rows(images):
    """The images as a set; the digits are all different."""
    found = [image.numpy().tobytes() for image in images.images]
    assert len(set(found)) >= len(found) - 5
    return set(found)


def test_splits_are_the_same_for_all_seeds_of_a_trial(digits):
    first = build.build_splits(run_spec(data__train_samples=100, seed=0), digits, split_seed=4)
    second = build.build_splits(run_spec(data__train_samples=100, seed=99), digits, split_seed=4)
    other = build.build_splits(run_spec(data__train_samples=100, seed=0), digits, split_seed=5)
    for name in ("train", "teacher_train", "val"):
        assert torch.equal(getattr(first, name).images, getattr(second, name).images)
        assert torch.equal(getattr(first, name).labels, getattr(second, name).labels)
    assert not torch.equal(first.train.images, other.train.images)
    assert not torch.equal(first.val.images, other.val.images)


def test_train_and_validation_share_no_image(digits):
    splits = build.build_splits(run_spec(data__validation_fraction=0.2), digits, 0)
    assert len(splits.train) + len(splits.val) == len(digits.train)
    assert len(splits.val) == round(0.2 * len(digits.train))
    assert not rows(splits.train) & rows(splits.val)
    assert not rows(splits.val) & rows(splits.teacher_train)
    assert rows(splits.train) | rows(splits.val) == rows(digits.train)
    assert len(splits.teacher_train) == len(splits.train)


def test_subsets_are_stratified_and_inside_the_training_split(digits):
    spec = run_spec(data__train_samples=100, teacher__train_samples=200)
    splits = build.build_splits(spec, digits, 0)
    whole = build.build_splits(run_spec(), digits, 0)
    for subset, size in ((splits.train, 100), (splits.teacher_train, 200)):
        assert len(subset) == size
        assert rows(subset) < rows(whole.train)
        share = subset.labels.bincount(minlength=10) / size
        expected = whole.train.labels.bincount(minlength=10) / len(whole.train)
        assert (share - expected).abs().max() <= 1 / size
    assert torch.equal(splits.val.images, whole.val.images)
    assert not rows(splits.train) <= rows(splits.teacher_train)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"data__train_samples": 5000},
            "data.train_samples: 5000: only 1294 training images are left after validation_fraction 0.1",
        ),
        (
            {"teacher__train_samples": 1300, "data__validation_fraction": 0.2},
            "teacher.train_samples: 1300: only 1150 training images are left after validation_fraction 0.2",
        ),
        ({"data__train_samples": 9}, "data.train_samples: 9: must be >= 10, one image of each class"),
        (
            {"data__validation_fraction": 0.001},
            "data.validation_fraction: 0.001: a stratified subset of 10 classes needs at least 10 samples, not 1",
        ),
    ],
)
def test_splits_that_the_images_cannot_give_name_the_field(digits, overrides, message):
    # Files that are not verified may hold any number of images, so that only loading them tells.
    with pytest.raises(DataError) as caught:
        build.build_splits(run_spec(data__verify=False, **overrides), digits, 0)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", DATASET_FACTS)
def test_the_sizes_that_specs_are_checked_by_are_those_of_the_data(name):
    try:
        dataset = load_dataset(name)
    except DataError:
        pytest.skip(f"{name} is not on this machine")
    _, channels, pixels, _ = dataset.train.images.shape
    assert DATASET_FACTS[name] == (len(dataset.train), len(dataset.classes), channels, pixels)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_initial_weights_depend_on_the_seed_alone(digits):
    first = student_run(digits, seed=1)
    torch.manual_seed(1234)
    for changed in (
        {"training__optimizer__lr": 0.2, "training__batch_size": 8},
        {"distillation": {"kd_weight": 0.0, "ce_weight": 0.5}},
        {"data__train_samples": 100},
        {"teacher__model": "resnet20"},
    ):
        assert same(first.student, student_run(digits, seed=1, **changed).student)
    assert not same(first.student, student_run(digits, seed=2).student)


def test_building_leaves_the_global_generator_alone(digits):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    student_run(digits)
    assert torch.equal(torch.rand(3), expected)


def test_student_and_teacher_of_one_model_start_apart(digits):
    spec = run_spec(teacher={"model": "resnet8", "width": 0.125})
    made = build.build_student_run(spec, build.build_splits(spec, digits, 0), build.build_teacher(spec, digits))
    assert not same(made.student, made.teacher)


def test_no_two_seeds_share_a_stream():
    streams = {stream_seed(seed, stream) for seed in range(200) for stream in Stream}
    assert len(streams) == 200 * len(Stream)


def test_a_root_in_the_environment_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    spec = run_spec(data__dataset="fashion-mnist", data__root="${env:DATA_ROOT}/sets")
    with pytest.raises(DataError, match=str(tmp_path / "sets")):
        build.load_data(spec.data)


def test_a_checkpoint_is_read_with_its_mapping(digits, tmp_path):
    spec = run_spec(teacher={"model": "resnet14", "checkpoint": "/t.pt", "key_mapping": "repdistiller"})
    source, teacher = build.build_teacher(spec, digits), build.build_teacher(spec.with_values({"seed": 5}), digits)
    state = source.state_dict()
    for ours, theirs in (("head.weight", "fc.weight"), ("head.bias", "fc.bias"), ("stem.0.weight", "conv1.weight")):
        state[theirs] = state.pop(ours)
    torch.save({"model": state}, tmp_path / "t.pt")
    build.load_teacher(spec.teacher, tmp_path / "t.pt", teacher)
    assert same(source, teacher)


def test_a_checkpoint_that_does_not_fit_names_its_field(digits, tmp_path):
    spec = run_spec(teacher={"model": "resnet8", "checkpoint": "/t.pt"})
    torch.save({"head.weight": torch.zeros(100, 64)}, tmp_path / "t.pt")
    with pytest.raises(
        CheckpointError, match=r"^teacher.checkpoint: .*t.pt tells 100 classes apart, the data set has 10"
    ):
        build.load_teacher(spec.teacher, tmp_path / "t.pt", build.build_teacher(spec, digits))


def test_an_augmentation_section_makes_what_it_says(digits):
    def built(**section):
        return student_run(digits, **{f"data__augmentation__{key}": value for key, value in section.items()})

    section = {
        "crop": 2,
        "flip": True,
        "cutout": 3,
        "color_jitter": {"brightness": 0.5, "hue": 0.1},
        "policy": {"method": "randaugment", "num_ops": 3, "magnitude": 7},
        "mixup": 0.2,
        "cutmix": 1.0,
        "mix_probability": 0.5,
    }
    made = built(**section).data.augmentation
    assert (made.crop_padding, made.flip, made.cutout) == (2, True, 3)
    assert made.cutout_fill == (round(255 * digits.mean[0]),)
    assert made.color_jitter.ranges == [(0.5, 1.5), (1, 1), (1, 1), (-0.1, 0.1)]
    assert isinstance(made.policy, RandAugment)
    assert (made.policy.num_ops, made.policy.magnitude) == (3, 7)
    assert (made.mixing.mixup, made.mixing.cutmix, made.mixing.probability) == (0.2, 1.0, 0.5)
    assert isinstance(built(policy={"method": "trivialaugment"}).data.augmentation.policy, TrivialAugment)
    usual = built(mixup=0.4).data.augmentation
    assert (usual.crop_padding, usual.flip, usual.cutout) == (digits.crop_padding, digits.flip, 0)
    assert (usual.mixing.mixup, usual.mixing.cutmix) == (0.4, None)
    assert (usual.color_jitter, usual.policy) == (None, None)
    bare = built(crop=0, flip=False).data.augmentation
    assert (bare.crop_padding, bare.flip, bare.mixing) == (0, False, None)
