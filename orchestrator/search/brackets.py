"""Brackets of trials that wait for each other, and what is decided of those who wait."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.search.trials import Record, Status


@dataclass(frozen=True)
class Bracket:
    """Trials with consecutive numbers that are compared with each other."""

    first: int
    size: int
    rungs: tuple[int, ...]
    """Epochs after which its trials wait; those that are left after the last rung run to their end."""

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.size)


@dataclass(frozen=True)
class Exploit:
    """A waiting trial that is to go on from another's checkpoint."""

    loser: Record
    source: Record
    epoch: int
    """After which both wait."""
    key: str
    """What its draws follow from: the seed, the variant, the epoch and the loser's number."""


@dataclass(frozen=True)
class Verdict:
    """What a bracket's waiting trials are to do; those in no list wait on."""

    go_on: tuple[Record, ...] = ()
    out: tuple[Record, ...] = ()
    exploits: tuple[Exploit, ...] = ()


def is_through(record: Record, passed: int) -> bool:
    """Whether so many rungs lie behind the trial, or it has ended before."""
    return len(record.rungs) >= passed or record.status.ended


def waiting_after(records: Iterable[Record], passed: int) -> list[Record]:
    """Those that wait at the last of so many rungs."""
    return [r for r in records if r.status is Status.PAUSED and len(r.rungs) == passed]
