"""Samples a second of a distillation step beside a plain loop and beside the bare networks.

A ResNet-56 teaches a ResNet-20 on random 3 x 32 x 32 images of 100 classes. The rows:

- reference: the loop of the popular distillation repositories, written plainly: PIL images through torchvision's
  transforms and a DataLoader, eager float32, the teacher's forward pass in every step, cross entropy and KD, SGD, and
  the loss and accuracy of every step read with `.item()`. The DataLoader has no worker processes: their work takes
  a core's time as well. On a GPU cuDNN looks for its fastest algorithms, as those repositories have it do.
- float32, bf16: this package's loop, with the same augmentation and losses and all its metrics.
- compiled: the same with `training.compile`; the seconds that compiling takes are told apart.
- compute: what no loop can leave out, in the same precision and layout: forward of the folded teacher, forward and
  backward of the student, the optimizer's step; on a batch that is there, without a loss.

`--parts` shows instead what each means gains: the bare networks with all of them, and without one at a time.

Each row runs in its own process with one thread, and the rows take turns. Speeds are medians of samples a second of CPU
time; a ratio is the median over rounds of both rows' ratio within a round. Beside each stands what is aimed at.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
# What an earlier run has compiled would be found again.
os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from orchestrator.data import Augmentation, Images
from orchestrator.distillation.adjustment import NoAdjustment
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.temperature import ConstantTemperature
from orchestrator.models import build_model
from orchestrator.models.folding import folded
from orchestrator.training import Precision, TrainingData, TrainingRun, TrainingSettings, World
from orchestrator.training.optim import constant, sgd
from orchestrator.training.precision import autocast
from orchestrator.training.process import prepare_process

CLASSES, SIZE = 100, 32
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
LR, CE_WEIGHT, KD_WEIGHT, TEMPERATURE = 0.05, 0.1, 0.9, 4.0
CPU = torch.device("cpu")
AIMS = {"float32": 1.4, "bf16": 2.5}
"""Times the speed of the reference."""
OF_COMPUTE = 0.9
"""Share of the bare networks' speed that is aimed at."""
Turn = Callable[[], None]
"""Trains on all images once."""


def networks() -> tuple[nn.Module, nn.Module]:
    """The student and its teacher."""
    torch.manual_seed(0)
    student, teacher = (build_model(name, num_classes=CLASSES) for name in ("resnet20", "resnet56"))
    return student, teacher.eval()


def random_images(count: int) -> Images:
    pixels = torch.randint(256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Images(pixels, torch.arange(count) % CLASSES)


def pictures(data: Images, changes: Sequence[Any], batch: int, *, shuffle: bool, workers: int) -> DataLoader[Any]:
    """Batches of float images and labels: PIL images, changed one by one."""
    from torchvision import transforms
    from torchvision.transforms.functional import to_pil_image

    kept = [(to_pil_image(image), int(label)) for image, label in zip(data.images, data.labels, strict=True)]
    change = transforms.Compose(changes)

    class Pictures(Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return len(kept)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            picture, label = kept[index]
            return change(picture), label

    # Forked, as is usual on Linux, whatever the process is set to.
    way = {"num_workers": workers, "persistent_workers": True, "multiprocessing_context": "fork"} if workers else {}
    return DataLoader(Pictures(), batch_size=batch, shuffle=shuffle, **way)


def reference(batch: int, count: int, *, device: torch.device = CPU, workers: int = 0, tf32: bool = True) -> Turn:
    from torchvision import transforms

    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = tf32
    student, teacher = (network.to(device) for network in networks())
    changes = [
        transforms.RandomCrop(SIZE, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    loader = pictures(random_images(count), changes, batch, shuffle=True, workers=workers)
    optimizer = torch.optim.SGD(student.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)

    def turn() -> None:
        losses, hits = 0.0, 0.0
        student.train()
        for images_here, labels_here in loader:
            images, labels = images_here.to(device), labels_here.to(device)
            with torch.no_grad():
                logits_teacher = teacher(images)
            logits = student(images)
            softened = F.log_softmax(logits / TEMPERATURE, dim=1)
            targets = F.softmax(logits_teacher / TEMPERATURE, dim=1)
            loss_kd = F.kl_div(softened, targets, reduction="batchmean") * TEMPERATURE**2
            loss = CE_WEIGHT * F.cross_entropy(logits, labels) + KD_WEIGHT * loss_kd
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.item()
            hits += (logits.argmax(dim=1) == labels).float().mean().item()

    return turn


def ours(batch: int, count: int, precision: Precision, *, compiled: bool = False, device: torch.device = CPU) -> Turn:
    prepare_process(threads=1)
    student, teacher = (network.to(device) for network in networks())
    images, never = random_images(count), 1_000_000
    run = TrainingRun(
        student,
        Criterion(CE_WEIGHT, KD_WEIGHT, ConstantTemperature(TEMPERATURE), NoAdjustment()),
        sgd(student.parameters(), lr=LR, weight_decay=5e-4),
        constant(never),
        TrainingSettings(never, batch, seed=0, precision=precision, eval_every=never, compile=compiled),
        TrainingData(images, images, MEAN, STD, Augmentation(4, True)),
        teacher=teacher,
        world=World(device=device),
    )

    def turn() -> None:
        run.train_epoch()

    return turn


def compute(
    batch: int,
    count: int,
    precision: Precision,
    *,
    channels_last: bool = True,
    folding: bool = True,
    kept_memory: bool = True,
) -> Turn:
    if kept_memory:
        prepare_process(threads=1)
    torch.set_num_threads(1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    student, teacher = (network.to(memory_format=layout) for network in networks())
    inputs = torch.randn(batch, 3, SIZE, SIZE).to(memory_format=layout)
    if folding:
        teacher = folded(teacher, inputs[:1]).to(memory_format=layout)
    student.train()
    optimizer = sgd(student.parameters(), lr=LR, weight_decay=5e-4)
    gradient = torch.randn(batch, CLASSES) / batch

    def turn() -> None:
        for _ in range(count // batch):
            with torch.inference_mode(), autocast(precision, CPU):
                teacher(inputs)
            with autocast(precision, CPU):
                logits = student(inputs)
            logits.backward(gradient)
            optimizer.step()
            optimizer.zero_grad()

    return turn


Row = Callable[[int, int], Turn]
"""Makes a turn, given the size of a batch and the number of images."""
ROWS: dict[str, Row] = {
    "reference": reference,
    "float32": partial(ours, precision="float32"),
    "bf16": partial(ours, precision="bf16"),
    "float32, compiled": partial(ours, precision="float32", compiled=True),
    "bf16, compiled": partial(ours, precision="bf16", compiled=True),
    "compute, float32": partial(compute, precision="float32"),
    "compute, bf16": partial(compute, precision="bf16"),
}
PARTS: dict[str, Row] = {
    f"{precision}{', without ' if left_out else ''}{left_out}": partial(
        compute, precision=precision, **({left_out: False} if left_out else {})
    )
    for precision in ("float32", "bf16")
    for left_out in ("", "channels_last", "folding", "kept_memory")
}
"""The bare networks, with all means and without one of them."""
COMPUTE = {row: f"compute, {row.partition(',')[0]}" for row in ROWS if row.startswith(("float32", "bf16"))}
"""The bare networks that a row is held against."""


def serve(row: Row, batch: int, count: int, pipe: Connection) -> None:
    """In a row's process: for every message one turn, answered with its CPU seconds and its seconds.

    It ends where nobody asks any more.
    """
    turn = row(batch, count)
    with contextlib.suppress(EOFError):
        while True:
            pipe.recv()
            started, began = time.process_time(), time.perf_counter()
            turn()
            pipe.send((time.process_time() - started, time.perf_counter() - began))


def seconds(
    rows: dict[str, Row], batch: int, count: int, rounds: int, *, wall: bool = False
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of a turn of `count` images by row, for every round but the first two, and of the first.

    The first's are the clock's; the others are CPU seconds, or with `wall` the clock's too.
    """
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    taken: dict[str, list[float]] = {name: [] for name in rows}
    first: dict[str, float] = {}
    try:
        for name, row in rows.items():
            pipes[name], end = context.Pipe()
            # A daemon may have no processes of its own, as a DataLoader with workers does.
            process = context.Process(target=serve, args=(row, batch, count, end), daemon=False)
            process.start()
            # So that a row that dies is an error instead of a wait without end.
            end.close()
            processes.append(process)
        for number in range(rounds + 2):
            for name in rows if number % 2 else reversed(rows):
                pipes[name].send(True)
                spent, waited = pipes[name].recv()
                first.setdefault(name, waited)
                if number >= 2:
                    taken[name].append(waited if wall else spent)
    finally:
        for pipe in pipes.values():
            pipe.close()
        for process in processes:
            process.join()
    return taken, first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds: does it run, not how fast")
    parser.add_argument("--parts", action="store_true", help="what each means gains, instead of the whole step")
    arguments = parser.parse_args()
    rounds, samples = (2, 512) if arguments.quick else (15, 1024)
    print(f"torch {torch.__version__}, one thread, {platform.machine()}; ResNet-56 teaches ResNet-20")
    for batch in (64, 256):
        if arguments.parts:
            show_parts(batch, samples, rounds)
            continue
        taken, first = seconds(ROWS, batch, samples, rounds)
        print(f"\n{f'batches of {batch}':20} {'samples/s':>10} {'to reference':>13} {'to compute':>11}   aims")
        for row, spent in taken.items():
            speed = samples / statistics.median(spent)
            line = f"{row:20} {speed:10.0f} {ratio(taken['reference'], spent):12.2f}x"
            if row in COMPUTE:
                aim = f"at least {AIMS[row.partition(',')[0]]}x and {OF_COMPUTE}x"
                line += f" {ratio(taken[COMPUTE[row]], spent):10.3f}x   {aim}"
            compiling = f"; {first[row] - statistics.median(spent):.0f} s to compile"
            print(line + (compiling if row.endswith("compiled") else ""))


def show_parts(batch: int, samples: int, rounds: int) -> None:
    taken, _ = seconds(PARTS, batch, samples, rounds)
    print(f"\n{f'batches of {batch}':32} {'samples/s':>10} {'the means gains':>16}")
    for row, spent in taken.items():
        whole, _, left_out = row.partition(", ")
        gain = f"{ratio(spent, taken[whole]):15.2f}x" if left_out else ""
        print(f"{row:32} {samples / statistics.median(spent):10.0f} {gain}")


def ratio(others: list[float], row: list[float]) -> float:
    """How many times as fast as `others` a row is."""
    return statistics.median(other / own for other, own in zip(others, row, strict=True))


if __name__ == "__main__":
    main()
