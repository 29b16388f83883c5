"""The pictures of docs/la-and-dtd.md, drawn from what the package's own functions give.

python docs/generate/figures.py      # writes docs/figures/*.svg anew
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from orchestrator.distillation.adjustment import label_smoothing_targets, probability_shift
from orchestrator.distillation.temperature import cwsm_weights, dynamic_temperature, flsw_weights

FOLDER = Path(__file__).parents[1] / "figures"
BLUE, ORANGE, GREEN, GREY, INK = "#0072b2", "#d55e00", "#00805c", "#b8bec7", "#333a45"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small, searchable, in the reader's font
    "svg.hashsalt": "orchestrator",
}
CLASSES = ["cat", "dog", "fox", "car", "ship"]
BASE, LOW, HIGH = 4.0, 1.0, 12.0
TEACHER = torch.tensor([[9.0, 5.5, 4.5, 0.5, 0.0]])
"""What the teacher answers to a picture of a cat."""
AGREES, CONFUSED = torch.tensor([[7.0, 4.0, 3.5, 0.0, -0.5]]), torch.tensor([[2.0, 6.5, 5.0, 1.0, 3.0]])
"""What a student answers that has understood it, and one that has not."""
ERRING = torch.tensor([[4.5, 7.0, 4.0, 0.5, 0.0]])
"""What a teacher answers that takes the cat for a dog."""


def temperatures() -> Figure:
    """Temperature against weight, for both methods and three values of beta each."""
    figure, panels = _panels(2, 7.6, 3.1)
    for panel, title, ends, mean, betas in (
        (panels[0], "flsw: student and teacher disagree", (0.0, 2.0), 0.5, (5.0, 20.0, 60.0)),
        (panels[1], "cwsm: the student is not sure", (1.0, 10.0), 3.0, (0.5, 1.0, 3.0)),
    ):
        points = torch.linspace(*ends, 181)
        panel.axhspan(LOW, HIGH, color=GREY, alpha=0.18, lw=0)
        panel.axhline(0, color=INK, lw=0.6)
        for beta, color in zip(betas, (GREEN, BLUE, ORANGE), strict=True):
            panel.plot(points, BASE + beta * (mean - points), color=color, lw=1, ls=(0, (2, 2)))
            bounded = dynamic_temperature(points, BASE, beta, LOW, HIGH, mean=mean)
            panel.plot(points, bounded, color=color, lw=2.2, label=f"beta {beta:g}")
        panel.text(ends[1], HIGH, f"max {HIGH:g} ", ha="right", va="bottom", fontsize=8.5)
        panel.text(ends[1], LOW + 0.3, f"min {LOW:g} ", ha="right", va="bottom", fontsize=8.5)
        panel.plot(mean, BASE, "o", color=INK, ms=5)
        panel.annotate("a sample of\nmean weight", (mean, BASE), (6, 8), textcoords="offset points", fontsize=8.5)
        panel.set(title=title, xlabel="weight $w_x$ of the sample", xlim=ends, ylim=(-9, 16), yticks=[0, 4])
        panel.legend(loc="lower left")
    panels[0].set_ylabel("temperature")
    return figure


def confusing_sample() -> Figure:
    """The same answer of the teacher as a target for two samples: at one temperature, and at each sample's own."""
    students, teachers = torch.cat([AGREES, CONFUSED]), TEACHER.expand(2, -1)
    weights = flsw_weights(students, teachers, gamma=1.0)
    taus = dynamic_temperature(weights, BASE, 20.0, LOW, HIGH)
    figure, panels = _panels(2, 7.6, 2.9, sharey=True)
    names = ("a sample that is clear", "a confusing sample")
    for panel, name, weight, tau, color in zip(panels, names, weights, taus, (GREEN, ORANGE), strict=True):
        _bars(panel, _softened(TEACHER, BASE), GREY, -0.2, f"at temperature {BASE:g}")
        _bars(panel, _softened(TEACHER, float(tau)), color, 0.2, f"at its own, {tau:.1f}")
        panel.set_title(f"{name}: weight {weight:.2f}")
        panel.legend(loc="upper right")
    panels[0].set_ylabel("probability in the target")
    return figure


def repaired_target() -> Figure:
    """The target from a teacher that errs, and what each rule makes of it."""
    label = torch.tensor([0])
    given = torch.softmax(ERRING / BASE, dim=1)
    targets = {
        "none: as the teacher gave it": given,
        "probability_shift": torch.softmax(probability_shift(ERRING, label) / BASE, dim=1),
        "label_smoothing, epsilon 0.1": label_smoothing_targets(given, ERRING, label, epsilon=0.1),
    }
    figure, panels = _panels(3, 7.6, 2.7, sharey=True)
    for panel, (name, target) in zip(panels, targets.items(), strict=True):
        bars = panel.bar(CLASSES, target[0], color=GREY, width=0.7)
        bars[0].set_color(BLUE)
        for bar, value in zip(bars, target[0], strict=True):
            panel.annotate(f"{value:.2f}", (bar.get_x() + 0.35, value), (0, 2), textcoords="offset points", **_SMALL)
        panel.set(title=name, ylim=(0, 1.05))
    panels[0].set_ylabel("probability in the target")
    return figure


def weights() -> Figure:
    """How both weights follow a student that leaves its teacher: towards another class, and towards none."""
    way = torch.linspace(0, 1, 101)[:, None]
    teacher, other = torch.tensor([[8.0, 3.0, 2.0, 0.5, 0.0]]), torch.tensor([[0.0, 3.0, 2.0, 0.5, 8.0]])
    teachers = teacher.expand(len(way), -1)
    believing, doubting = (1 - way) * teacher + way * other, (1 - 0.98 * way) * teacher
    figure, panels = _panels(2, 7.6, 2.8)
    panels[0].plot(way, flsw_weights(believing, teachers, gamma=1.0), color=ORANGE, lw=2.2)
    panels[0].plot(way, flsw_weights(doubting, teachers, gamma=1.0), color=BLUE, lw=2.2, ls=(0, (4, 2)))
    panels[1].plot(way, cwsm_weights(believing), color=ORANGE, lw=2.2, label="comes to believe it is a ship")
    panels[1].plot(way, cwsm_weights(doubting), color=BLUE, lw=2.2, ls=(0, (4, 2)), label="becomes unsure")
    panels[0].set(title="flsw: what it disagrees with", ylabel="weight $w_x$", ylim=(-0.05, None))
    panels[1].set(title="cwsm: how unsure it is", ylim=(0.8, None))
    panels[1].legend(loc="upper left")
    for panel in panels:
        panel.set_xticks([0, 0.5, 1], ["as its teacher", "half way", "there"])
    return figure


FIGURES = {
    "temperatures": temperatures,
    "weights": weights,
    "confusing-sample": confusing_sample,
    "repaired-target": repaired_target,
}
_SHAPE = re.compile(r"\b[mpC][0-9a-f]{10}\b")
_SMALL = {"ha": "center", "fontsize": 8}


def svg(name: str) -> str:
    """A picture as text, the same wherever it is drawn but for the last digits of numbers."""
    with mpl.rc_context(STYLE):
        file = io.StringIO()
        FIGURES[name]().savefig(file, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
    lines = "\n".join(line.rstrip() for line in file.getvalue().splitlines())
    # Shapes are named by a hash of their numbers, which would differ where a last digit does.
    names: dict[str, str] = {}
    return _SHAPE.sub(lambda match: names.setdefault(match[0], f"shape_{len(names)}"), lines) + "\n"


def _panels(count: int, width: float, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(1, count, sharey=sharey)
    return figure, list(panels)


def _softened(logits: Tensor, temperature: float) -> Tensor:
    return torch.softmax(logits[0] / temperature, dim=0)


def _bars(panel: Axes, heights: Tensor, color: str, shift: float, label: str) -> None:
    places = torch.arange(len(CLASSES)) + shift
    panel.bar(places, heights, width=0.38, color=color, label=label)
    panel.set_xticks(range(len(CLASSES)), CLASSES)
    panel.set_ylim(0, 1)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in FIGURES:
        (FOLDER / f"{name}.svg").write_text(svg(name))
        print(FOLDER / f"{name}.svg")
