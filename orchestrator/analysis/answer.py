"""What an experiment answers, in two sentences: what it found, and how sure that is."""

from __future__ import annotations

from orchestrator.analysis.comparisons import Comparison, power, told, untested, verdict
from orchestrator.analysis.formats import format_interval, format_p
from orchestrator.analysis.results import Results, VariantResult
from orchestrator.analysis.statistics import MIN_FOR_INTERVAL
from orchestrator.search.standing import State
from orchestrator.search.trials import Status

MAX_TOLD = 2
"""Differences that are told in full; of more the sizes alone."""


def answer(results: Results, state: State) -> tuple[str, str]:
    """Two sentences, the second on how far the first is to be trusted; an unfinished experiment says so."""
    found, sure = _answer(results)
    if state in (State.RUNNING, State.INTERRUPTED) and any(variant.best for variant in results.variants):
        now = "is still running" if state is State.RUNNING else "was interrupted"
        return f"So far: {found}", f"{sure.removesuffix('.')}; the experiment {now}."
    return found, sure


def _answer(results: Results) -> tuple[str, str]:
    comparisons = [c for c in results.comparisons if c.difference]
    tested = [c for c in comparisons if c.p_holm is not None]
    if tested:
        return _tested(comparisons, tested)
    if comparisons:
        return _untested(comparisons)
    variants = [variant for variant in results.variants if variant.test]
    if variants:
        return _alone(variants)
    if best := [variant for variant in results.variants if variant.best]:
        return _searched(results, best)
    return _nothing(results)


def _tested(comparisons: list[Comparison], tested: list[Comparison]) -> tuple[str, str]:
    shown = [c for c in tested if c.shown]
    if not shown:
        first, *others = verdict(comparisons)
        return first, " ".join(others) or "The means are the same but for rounding."
    found = _sentence("; ".join(map(told, shown))) if len(shown) <= MAX_TOLD else _many(shown, len(comparisons))
    unseen = [c for c in tested if not c.shown]
    rest = "".join(f" {line}" for line in untested(comparisons))
    if not unseen:
        over = f", p-values corrected for {len(tested)} comparisons" if len(tested) > 1 else ""
        return found, f"Intervals are 95% over {_seeds(shown)}{over}; they hold for this data, split and teacher.{rest}"
    named = ", ".join(c.variant for c in unseen)
    more = " ".join(power(tested)).replace("With this spread", "with this spread", 1)
    return found, f"No difference is shown for {named}{f': {more}' if more else '.'}{rest}"


def _many(shown: list[Comparison], of: int) -> str:
    sizes = [
        f"{c.variant} {c.difference.mean:+.2f} points ({format_interval(c.difference.interval, '+')})"
        for c in shown
        if c.difference
    ]
    references = {c.reference for c in shown}
    what = f"from {references.pop()}" if len(references) == 1 else "from their references"
    highest = max(c.p_holm for c in shown if c.p_holm is not None)
    return f"{len(shown)} of {of} variants differ {what}: {', '.join(sizes)}; each p at most {format_p(highest)}."


def _untested(comparisons: list[Comparison]) -> tuple[str, str]:
    sizes = [
        f"{c.variant} is {abs(c.difference.mean):.2f} points {'above' if c.difference.mean >= 0 else 'below'} "
        f"{c.reference} in test accuracy"
        for c in comparisons
        if c.difference
    ]
    spread = any(c.difference and c.difference.interval for c in comparisons)
    why = "without any spread there is no test" if spread else f"a test takes {MIN_FOR_INTERVAL} seeds in common"
    return _sentence("; ".join(sizes)), f"Whether that is more than chance is not known: {why}."


def _alone(variants: list[VariantResult]) -> tuple[str, str]:
    means = [f"{variant.name} reaches {variant.test} % of test images" for variant in variants]
    one = variants[0].test
    if len(variants) > 1 or one is None:
        return _sentence(
            "; ".join(means)
        ), "They are not compared: final runs of what they are compared with are lacking."
    known = f"The 95% interval is {format_interval(one.interval)}" if one.interval else "How sure that is, is not known"
    runs = f"{one.count} fresh seed{'s' if one.count > 1 else ''}"
    return _sentence(means[0]), f"{known} (over {runs}); there is no other variant that it is compared with."


def _searched(results: Results, best: list[VariantResult]) -> tuple[str, str]:
    search = results.spec.search
    sign, metric = search.objectives[search.first_metric], search.first_metric
    first = max((v for v in best if v.best), key=lambda v: sign * v.best.metrics[metric] if v.best else 0.0)
    value = first.best.metrics[metric] if first.best else 0.0
    why = "search.final_seeds is 0" if not search.final_seeds else "no final run has a result"
    return (
        f"{first.name} has the best {metric} of the search, {value:.2f}.",
        f"Nothing was tested ({why}), and the best of several trials looks better than it is.",
    )


def _nothing(results: Results) -> tuple[str, str]:
    ended = sum(record.status.ended for record in results.records)
    if ended and all(r.status is Status.FAILED for r in results.records if r.status.ended):
        return "There is no answer: every trial that has ended has failed.", "The reasons stand under Failures."
    return "There is no answer yet: no search trial has a result.", f"{ended} trials have ended so far."


def _seeds(shown: list[Comparison]) -> str:
    counts = sorted({c.difference.count for c in shown if c.difference})
    return f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seeds"


def _sentence(text: str) -> str:
    return f"{text}."
