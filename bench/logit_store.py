"""What stored teacher logits save, and what they change.

- speed: samples a second of CPU time of a trial whose views are all stored, beside the plain reference loop of
  `bench/step_speed.py`; ResNet-56 teaches ResNet-20, one thread each, the rows take turns.
- search: 24 learning rates tried end to end, beside a plain Ray Tune script. Real Fashion-MNIST images (digits with
  --quick); both are given the same finished teacher, split, configurations and epochs, and run two trials at once. In
  the plain script each trial is a function that loads the data and the teacher, runs the teacher in every step, and
  reads images through torchvision's transforms and a DataLoader.
- difference: digits, with live logits and stored ones of both dtypes over seeds.

    python bench/logit_store.py [speed] [search] [difference]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import weakref
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import step_speed
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

from orchestrator import build, load_spec, names
from orchestrator.data import Augmentation
from orchestrator.data.logit_store import LogitStore
from orchestrator.data.views import View, Views
from orchestrator.execution.cache import Cache
from orchestrator.execution.cluster import quiet_settings
from orchestrator.execution.job import Job
from orchestrator.execution.runner import run_experiment
from orchestrator.execution.session import Session
from orchestrator.models import build_model
from orchestrator.search.logits import Keeping
from orchestrator.search.plan import make_plan
from orchestrator.search.trials import Phase
from orchestrator.spec.distillation import DistillationSpec
from orchestrator.store.home import Home
from orchestrator.training import Precision, TrainingData, TrainingRun, TrainingSettings, save_weights
from orchestrator.training.optim import constant, sgd
from orchestrator.training.process import prepare_process

VIEWS = 2
"""Of the run whose speed is measured; all are there before it starts."""


def stored(batch: int, count: int, precision: Precision) -> step_speed.Turn:
    """A row of `step_speed`: this package's loop, its teacher's logits read from files."""
    prepare_process(threads=1)
    student, _ = step_speed.networks()
    images, never = step_speed.random_images(count), 1_000_000
    spec = {
        "ce_weight": step_speed.CE_WEIGHT,
        "kd_weight": step_speed.KD_WEIGHT,
        "temperature": {"method": "constant", "base": step_speed.TEMPERATURE},
    }
    folder = tempfile.TemporaryDirectory()
    store = LogitStore(Path(folder.name), {}, dtype="float16", limit=1e9)

    def targets(view: View) -> torch.Tensor:
        return store.get(view, lambda view: torch.randn(count, step_speed.CLASSES)).logits

    run = TrainingRun(
        student,
        build.build_criterion(DistillationSpec.model_validate(spec)),
        sgd(student.parameters(), lr=step_speed.LR, weight_decay=5e-4),
        constant(never),
        TrainingSettings(epochs=never, batch_size=batch, seed=0, precision=precision, eval_every=never),
        TrainingData(images, images, step_speed.MEAN, step_speed.STD, Augmentation(4, True), Views(0, VIEWS)),
        targets=targets,
    )
    for number in range(VIEWS):
        targets(View(0, number))

    def turn() -> None:
        run.train_epoch()

    weakref.finalize(turn, folder.cleanup)
    return turn


def speed(quick: bool) -> None:
    rounds, samples = (2, 512) if quick else (15, 1024)
    rows = {
        "reference": step_speed.reference,
        "stored, float32": partial(stored, precision="float32"),
        "stored, bf16": partial(stored, precision="bf16"),
    }
    for batch in (64, 256):
        taken, _ = step_speed.seconds(rows, batch, samples, rounds)
        print(f"\n{f'batches of {batch}':20} {'samples/s':>10} {'to reference':>13}   (aim: at least 4x)")
        for row, spent in taken.items():
            ratio = step_speed.ratio(taken["reference"], spent)
            print(f"{row:20} {samples / statistics.median(spent):10.0f} {ratio:12.2f}x")


# A search, end to end

FASHION: dict[str, Any] = {
    "name": "stored-logits",
    "data": {"dataset": "fashion-mnist", "train_samples": 2000},
    "teacher": {"model": "resnet20", "training": {"epochs": 3, "optimizer": {"lr": 0.1}}, "train_samples": 4000},
    "student": {"model": "resnet8", "width": 0.5, "stem_stride": 2},
    "distillation": {"ce_weight": 0.1, "kd_weight": 0.9, "temperature": {"method": "constant", "base": 4}},
    "training": {"epochs": 10, "batch_size": 64, "schedule": {"method": "cosine"}},
    "search": {"sampler": "grid", "num_samples": 1, "final_seeds": 0},
    "resources": {"max_concurrent_trials": 2},
}


def rates(count: int) -> list[float]:
    return [round(0.01 * 30 ** (number / (count - 1)), 5) for number in range(count)]


def plain_trial(config: dict[str, Any]) -> None:
    """A trial as people write it for Ray Tune; `config` also says where splits and teacher are."""
    from ray import tune
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms
    from torchvision.transforms.functional import to_pil_image

    torch.set_num_threads(1)
    torch.manual_seed(0)
    parts = torch.load(config["splits"])
    change = transforms.Compose([transforms.RandomCrop(parts["train"][0].shape[-1], padding=config["padding"])])
    if config["flip"]:
        change.transforms.append(transforms.RandomHorizontalFlip())
    end = [transforms.ToTensor(), transforms.Normalize(config["mean"], config["std"])]

    class Pictures(Dataset[tuple[torch.Tensor, int]]):
        def __init__(self, part: str, transform: Any) -> None:
            images, labels = parts[part]
            self.pictures = [to_pil_image(image) for image in images]
            self.labels, self.transform = labels.tolist(), transform

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return self.transform(self.pictures[index]), self.labels[index]

    loader = DataLoader(Pictures("train", transforms.Compose([change, *end])), config["batch"], shuffle=True)
    val_loader = DataLoader(Pictures("val", transforms.Compose(end)), 256)
    teacher = build_model("resnet20", num_classes=10, in_channels=1)
    teacher.load_state_dict(torch.load(config["teacher"]))
    teacher.eval()
    student = build_model("resnet8", num_classes=10, in_channels=1, width=0.5, stem_stride=2)
    optimizer = torch.optim.SGD(student.parameters(), lr=config["lr"], momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["epochs"] * len(loader))
    for _ in range(config["epochs"]):
        student.train()
        for images, labels in loader:
            with torch.no_grad():
                logits_teacher = teacher(images)
            logits = student(images)
            softened, targets = F.log_softmax(logits / 4, dim=1), F.softmax(logits_teacher / 4, dim=1)
            loss_kd = F.kl_div(softened, targets, reduction="batchmean") * 16
            loss = 0.1 * F.cross_entropy(logits, labels) + 0.9 * loss_kd
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        student.eval()
        with torch.no_grad():
            hits = sum((student(images).argmax(dim=1) == labels).sum().item() for images, labels in val_loader)
        tune.report({"acc": 100 * hits / len(val_loader.dataset)})  # type: ignore[arg-type]


def plain_search(folder: Path, config: dict[str, Any], values: list[float]) -> list[float]:
    """Accuracies of a plain Ray Tune search."""
    import ray
    from ray import tune

    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    tuner = tune.Tuner(
        tune.with_resources(plain_trial, {"cpu": 1}),
        param_space={**config, "lr": tune.grid_search(values)},
        tune_config=tune.TuneConfig(max_concurrent_trials=2),
        run_config=tune.RunConfig(storage_path=str(folder / "plain"), verbose=0),
    )
    results = tuner.fit()
    ray.shutdown()
    return [result.metrics["acc"] for result in results if result.metrics]


def search(quick: bool) -> None:
    count, epochs = (4, 2) if quick else (24, 10)
    values = rates(count)
    small = {"data.train_samples": 200, "teacher.train_samples": 200, "teacher.training.epochs": 1}
    small = {"data.dataset": "digits", **small} if quick else {}
    quiet_settings()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        spec = load_spec(FASHION, small)
        run = make_plan(spec).arms[0].variant.run
        splits = build.build_splits(run, build.load_data(run.data), spec.seed)
        made = build.build_teacher_run(run, splits, trial="teacher")
        while not made.done:
            made.train_epoch()
        save_weights(folder / "teacher.safetensors", made.student, {})
        torch.save(made.student.state_dict(), folder / "teacher.pt")
        parts = {"train": splits.train, "val": splits.val}
        torch.save({name: (part.images, part.labels) for name, part in parts.items()}, folder / "splits.pt")

        started = time.monotonic()
        dataset = splits.dataset
        config = {
            **{name: str(folder / f"{name}.pt") for name in ("teacher", "splits")},
            "padding": dataset.crop_padding,
            "flip": dataset.flip,
            "mean": dataset.mean,
            "std": dataset.std,
            "epochs": epochs,
            "batch": run.training.batch_size,
        }
        plain = plain_search(folder, config, values)
        plain_s = time.monotonic() - started

        overrides = {
            "data.dataset": run.data.dataset,
            "data.train_samples": run.data.train_samples,
            "teacher": {"model": "resnet20", "checkpoint": str(folder / "teacher.safetensors")},
            "training.epochs": epochs,
            "search.space": {"training.optimizer.lr": {"type": "choice", "values": values}},
        }
        started = time.monotonic()
        results = run_experiment(load_spec(FASHION, overrides), Home(folder / "home"))
        ours_s = time.monotonic() - started
    ours = [record.metrics[names.VAL_ACC1] for record in results.records if record.trial.phase is Phase.SEARCH]
    print(f"\n{count} trials of {epochs} epochs, 2 at once")
    for name, seconds, found in (("plain Ray Tune", plain_s, plain), ("orchestrator", ours_s, ours)):
        print(f"{name:15} {seconds:7.1f} s   val/acc1 best {max(found):.2f} %, mean {statistics.mean(found):.2f} %")
    print(f"{plain_s / ours_s:.1f}x faster (aim: at least 5x)")


# What stored logits change

DIGITS: dict[str, Any] = {
    "name": "difference",
    "data": {"dataset": "digits", "validation_fraction": 0.2, "train_samples": 150},
    "teacher": {"model": "resnet14", "train_samples": 200, "training": {"epochs": 40, "optimizer": {"lr": 0.05}}},
    "student": {"model": "resnet8", "width": 0.25},
    "distillation": {
        "ce_weight": 0.5,
        "kd_weight": 0.5,
        "temperature": {"method": "flsw", "base": 4, "beta": 20, "gamma": 1, "min": 1, "max": 12},
        "adjustment": {"rule": "probability_shift"},
    },
    "training": {"epochs": 60, "batch_size": 32, "schedule": {"method": "cosine"}},
}
KINDS = {"live": (False, "float16"), "float32": (True, "float32"), "float16": (True, "float16")}


def difference(quick: bool) -> None:
    seeds, epochs = (2, 2) if quick else (10, 60)
    run = make_plan(load_spec(DIGITS, {"training.epochs": epochs})).arms[0].variant.run
    cache = Cache()
    accuracy: dict[str, list[float]] = {kind: [] for kind in KINDS}
    first: dict[str, list[float]] = {kind: [] for kind in KINDS}
    errors: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    wrong: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = folder / "teacher.safetensors"
        content = run.model_dump(exclude_unset=True)
        teacher = Session(Job("teacher", Phase.TEACHER, content, 0, str(folder / "t"), [], str(weights), False), cache)
        while not teacher.done:
            teacher.train_epoch()
        for seed in range(seeds):
            for kind, (keep, dtype) in KINDS.items():
                keeping = {**asdict(Keeping(keep, "", dtype, True)), "folder": str(folder / "store"), "limit": 1e9}
                model = {"model": run.teacher.model_dump(exclude_unset=True), "weights": str(weights)}  # type: ignore[union-attr]
                student = {**content, "seed": seed + 1}
                place = str(folder / f"{kind}-{seed}")
                session = Session(Job(kind, Phase.FINAL, student, 0, place, [model], logits=keeping), cache)
                metrics = [session.train_epoch() for _ in range(epochs)]
                accuracy[kind].append(metrics[-1][names.TEST_ACC1])
                first[kind].append(metrics[0][names.TRAIN_LOSS_KD])
                wrong[kind] += [epoch[names.ADJUSTMENT_WRONG] for epoch in metrics]
                errors[kind] += [epoch for epoch in metrics if names.LOGITS_MAX_ERROR in epoch]
    print(f"\ndigits, LA and DTD, {seeds} seeds of {epochs} epochs, beside the live teacher")
    print(
        f"{'logits':8} {'largest error':>14} {'mean error':>11} {'KD loss, epoch 1':>17} {'test acc1 %':>14} "
        f"{names.ADJUSTMENT_WRONG:>17}"
    )
    for kind in KINDS:
        largest = max((epoch[names.LOGITS_MAX_ERROR] for epoch in errors[kind]), default=0)
        mean = statistics.mean([epoch[names.LOGITS_MEAN_ERROR] for epoch in errors[kind]] or [0])
        loss = max(abs(one / other - 1) for one, other in zip(first[kind], first["live"], strict=True))
        told = f"{statistics.mean(accuracy[kind]):.2f} ± {statistics.stdev(accuracy[kind]):.2f}"
        changed = sum(one != other for one, other in zip(wrong[kind], wrong["live"], strict=True))
        print(
            f"{kind:8} {largest:14.1e} {mean:11.1e} {f'{loss:.1e} of it':>17} {told:>14} "
            f"{f'differs in {changed}':>17} of {len(wrong[kind])} epochs"
        )
    print(json.dumps(accuracy))


PARTS = {"speed": speed, "search": search, "difference": difference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds and trials: does it run, not what does it save"
    )
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} CPUs")
    for part in arguments.parts or PARTS:
        PARTS[part](arguments.quick)


if __name__ == "__main__":
    main()
