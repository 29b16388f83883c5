"""What each choice of a run is drawn from: its own stream of the seed, so that no choice depends on another."""

from __future__ import annotations

from enum import IntEnum

PEER_SEED = 400_000
"""Distance of the seeds of peers, which would otherwise start as one network, from the run's own."""


class Stream(IntEnum):
    """What is drawn."""

    SPLIT = 0
    STUDENT_SUBSET = 1
    TEACHER_SUBSET = 2
    STUDENT_INIT = 3
    TEACHER_INIT = 4
    LABEL_NOISE = 5
    FEATURE_INIT = 6


def stream_seed(seed: int, stream: Stream) -> int:
    """The seed of one stream of `seed`."""
    return seed * 16 + stream
