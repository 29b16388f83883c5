"""The palette: a variant looks the same everywhere, and its colour is seen on white, on black, and by all eyes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from orchestrator.analysis.charts.style import COLOURS, styles

WHITE, BLACK = 1.0, 0.0085
"""Luminance of a page, and of a dark one."""
EYES = {
    "all cones": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
"""How linear RGB is seen (Machado, Oliveira and Fernandes 2009, table 1, severity 1)."""
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
"""Oklab (Ottosson 2020), in which distances are differences that are seen."""


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_is_seen_on_light_and_dark_pages(colour: str) -> None:
    luminance = float(linear(colour) @ [0.2126, 0.7152, 0.0722])
    assert min(contrast(luminance, WHITE), contrast(luminance, BLACK)) >= 3


@pytest.mark.parametrize("eye", EYES)
def test_colours_are_told_apart(eye: str) -> None:
    seen = [np.cbrt(TO_CONES @ np.clip(EYES[eye] @ linear(colour), 0, None)) @ TO_LAB.T for colour in COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 0.09


def test_many_variants_are_drawn_in_different_ways() -> None:
    made = styles([f"variant-{number}" for number in range(32)])
    assert len(set(made.values())) == 32
    assert made["variant-0"].colour == made["variant-8"].colour
    assert made["variant-0"].dash != made["variant-8"].dash
    assert styles(["variant-0", "other"])["variant-0"] == made["variant-0"]
