"""Which layers of two networks belong together where the spec names none."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from orchestrator.models.taps import EMBEDDING, feature_shapes, stage_layers


def usual_layers(which: str, student: nn.Module, teacher: nn.Module, example: Tensor) -> tuple[list[str], list[str]]:
    """Layers of the student, and as many of the teacher, as a feature loss's `default_layers` asks for.

    Of a network with more stages than the other, those count whose maps for the images `example` [1, C, H, W] are
    nearest in size to the other's; of equally near ones the deeper. Raises as `Tap`.
    """
    if which == "embedding":
        return [EMBEDDING], [EMBEDDING]
    stages = stage_layers(student), stage_layers(teacher)
    if which == "last":
        return [stages[0][-1]], [stages[1][-1]]
    sides = [_sides(network, layers, example) for network, layers in zip((student, teacher), stages, strict=True)]
    chosen = aligned(*sides)
    if which == "middle":
        chosen = [[numbers[len(numbers) // 2]] for numbers in chosen]
    added = [EMBEDDING] if which == "stages_and_embedding" else []
    first, second = ([layers[n] for n in numbers] + added for layers, numbers in zip(stages, chosen, strict=True))
    return first, second


def aligned(first: Sequence[float], second: Sequence[float]) -> list[list[int]]:
    """Numbers of the stages that pair, in order, as many as the network with fewer has.

    Given are the sides of the stages' maps in pixels, 0 where a stage puts out no map; then depth alone decides.
    """
    if len(first) > len(second):
        return aligned(second, first)[::-1]
    short = list(range(len(first)))
    if min(*first, *second) == 0 or len(first) == len(second):
        return [short, list(range(len(second)))[-len(first) :]]

    def distance(chosen: tuple[int, ...]) -> tuple[float, int]:
        far = sum(abs(math.log2(first[n] / second[other])) for n, other in zip(short, chosen, strict=True))
        return round(far, 6), -sum(chosen)

    nearest = min(itertools.combinations(range(len(second)), len(first)), key=distance)
    return [short, list(nearest)]


def _sides(network: nn.Module, layers: Sequence[str], example: Tensor) -> list[float]:
    shapes = feature_shapes(network, layers, example)
    return [math.sqrt(shapes[layer][-2] * shapes[layer][-1]) if len(shapes[layer]) == 3 else 0 for layer in layers]
