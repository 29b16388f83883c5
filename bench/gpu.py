"""A distillation on a GPU: images a second, several trials on one GPU, and the seconds to an accuracy.

- speed: a ResNet-56 teaches a ResNet-20 on random 3 x 32 x 32 images of 100 classes, live, in the rows of
  `bench/step_speed.py` and of its plain loop with DataLoader workers; the rows take turns.
- packed: as many processes as trials that share the GPU by fractions, each training in bf16 at the same time.
- accuracy: a ResNet-20 learns a real data set, given by --dataset and --root, until it has --accuracy on the images
  held out; the seconds are those from the start of training, validations included.

Needs torch and this package's training room alone, no Ray; the plain loop needs torchvision. Seconds are the clock's.
`--device cpu` runs the same code where there is no GPU.

    python bench/gpu.py [speed] [packed] [accuracy]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import step_speed
import torch

from orchestrator import names
from orchestrator.data import Augmentation, load_dataset, stratified_split
from orchestrator.distillation.adjustment import NoAdjustment
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.temperature import ConstantTemperature
from orchestrator.models import build_model
from orchestrator.training import TrainingData, TrainingRun, TrainingSettings, World
from orchestrator.training.optim import cosine, sgd
from orchestrator.training.process import prepare_process

PACKED = (1, 2, 4, 8)
"""Trials at a time on one GPU."""


def rows(device: torch.device, workers: int) -> dict[str, step_speed.Row]:
    ours = partial(step_speed.ours, device=device)
    return {
        "plain loop": partial(step_speed.reference, device=device, workers=workers),
        "float32": partial(ours, precision="float32"),
        "float32, compiled": partial(ours, precision="float32", compiled=True),
        "bf16": partial(ours, precision="bf16"),
        "bf16, compiled": partial(ours, precision="bf16", compiled=True),
    }


def speed(device: torch.device, batches: Sequence[int], samples: int, rounds: int, workers: int) -> None:
    for batch in batches:
        taken, first = step_speed.seconds(rows(device, workers), batch, samples, rounds, wall=True)
        print(f"\n{f'batches of {batch}':20} {'images/s':>10} {'to plain loop':>14} {'first turn':>11}")
        for row, spent in taken.items():
            rate, ratio = samples / statistics.median(spent), step_speed.ratio(taken["plain loop"], spent)
            print(f"{row:20} {rate:10.0f} {ratio:13.2f}x {first[row]:9.1f} s", flush=True)


def trains_along(
    device: torch.device, batch: int, samples: int, seconds: float, start: Barrier, done: multiprocessing.Queue[float]
) -> None:
    """One of several trials at a time: puts its images a second into `done`."""
    turn = step_speed.ours(batch, samples, "bf16", device=device)
    turn()
    start.wait()
    began, turns = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        turn()
        turns += 1
    done.put(turns * samples / (time.perf_counter() - began))


def packed(device: torch.device, counts: Sequence[int], batch: int, samples: int, seconds: float) -> None:
    context = multiprocessing.get_context("spawn")
    print(f"\n{f'trials, batch {batch}':20} {'images/s':>10} {'to one trial':>14}")
    alone = None
    for count in counts:
        start, done = context.Barrier(count), context.Queue()
        given = (device, batch, samples, seconds, start, done)
        processes = [context.Process(target=trains_along, args=given, daemon=True) for _ in range(count)]
        for process in processes:
            process.start()
        together = sum(done.get(timeout=60 + 10 * seconds) for _ in processes)
        for process in processes:
            process.join()
        alone = alone or together
        print(f"{count:<20} {together:10.0f} {together / alone:13.2f}x", flush=True)


def accuracy(device: torch.device, dataset: str, root: Path | None, wanted: float, epochs: int, batch: int) -> None:
    prepare_process(threads=torch.get_num_threads())
    data = load_dataset(dataset, root)
    kept, held_out = stratified_split(data.train.labels, 0.1, seed=0)
    for precision in ("float32", "bf16"):
        torch.manual_seed(0)
        channels = data.train.images.shape[1]
        student = build_model("resnet20", num_classes=len(data.classes), in_channels=channels).to(device)
        run = TrainingRun(
            student,
            Criterion(1.0, 0.0, ConstantTemperature(1.0), NoAdjustment()),
            sgd(student.parameters(), lr=0.1, weight_decay=5e-4),
            cosine(epochs),
            TrainingSettings(epochs, batch, seed=0, precision=precision),
            TrainingData(
                data.train.take(kept),
                data.train.take(held_out),
                data.mean,
                data.std,
                Augmentation(data.crop_padding, data.flip),
            ),
            world=World(device=device),
        )
        began, seen = time.perf_counter(), 0.0
        while not run.done and seen < wanted:
            seen = run.train_epoch()[names.VAL_ACC1]
        reached = f"{time.perf_counter() - began:.1f} s, {run.epoch} epochs" if seen >= wanted else "not reached"
        print(f"{dataset}, {precision}: {wanted} % in {reached} ({seen:.2f} %)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["speed", "packed", "accuracy", []], help="default: all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=8, help="DataLoader workers of the plain loop")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--root", type=Path, help="folder of the data set's files")
    parser.add_argument("--accuracy", type=float, default=95.0, help="in percent, on the images held out")
    parser.add_argument("--epochs", type=int, default=30, help="at most")
    parser.add_argument("--quick", action="store_true", help="few rounds and images: does it run, not how fast")
    given = parser.parse_args()
    device, parts = torch.device(given.device), given.parts or ["speed", "packed", "accuracy"]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a processor, not a GPU"
    print(f"torch {torch.__version__} on {name}", flush=True)
    if "speed" in parts:
        batches, samples, rounds = ([64], 128, 1) if given.quick else ([64, 256, 1024], 20_480, 7)
        speed(device, batches, samples, rounds, 0 if given.quick else given.workers)
    if "packed" in parts:
        counts, samples, seconds = (PACKED[:2], 128, 1.0) if given.quick else (PACKED, 10_240, 15.0)
        packed(device, counts, 64 if given.quick else 256, samples, seconds)
    if "accuracy" in parts:
        accuracy(device, given.dataset, given.root, given.accuracy, 2 if given.quick else given.epochs, 128)


if __name__ == "__main__":
    main()
