"""Which configurations of a variant final runs are of, and which final runs are of others by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.search.ranking import best_first
from orchestrator.search.trials import Phase, Record, Trial
from orchestrator.spec.search import SearchSpec


def place_of(final: Trial, winners: Sequence[Record]) -> int | None:
    """Which of the configurations, the best first, a final run is of; None where it is of another one.

    Where its journal does not tell, there has been none but the best.
    """
    if final.repeats is None:
        return 0
    return next((place for place, winner in enumerate(winners) if winner.trial.id == final.repeats), None)


def outdated(records: Mapping[str, Record], search: SearchSpec) -> set[str]:
    """Ids of the final runs that do not count: configurations that were found later are better than theirs."""
    finals: dict[str, list[Trial]] = {}
    for record in records.values():
        if record.trial.phase is Phase.FINAL:
            finals.setdefault(record.trial.variant, []).append(record.trial)
    found: set[str] = set()
    for variant, trials in finals.items():
        mine = (r for r in records.values() if r.trial.phase is Phase.SEARCH and r.trial.variant == variant)
        winners = best_first(mine, search, search.final_configs)
        found.update(trial.id for trial in trials if winners and place_of(trial, winners) is None)
    return found
