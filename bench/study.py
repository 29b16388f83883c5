"""Tables of docs/study-fashion-mnist.md, from experiments that were run: mean, spread, paired test, effect size.

    orchestrator run specs/studies/fashion-mnist.yaml
    python bench/study.py study-fashion-mnist

Every variant is compared with plain distillation, over the same seeds: with `kd`, or, where a variant's name is
GROUP-METHOD, with GROUP-kd. p-values are of a paired t-test, after Holm's correction over the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator import names
from orchestrator.analysis.paired import Paired, holm, paired
from orchestrator.analysis.results import Results, VariantResult, format_values
from orchestrator.cli.results import find
from orchestrator.spec.variants import variants


def by_seed(variant: VariantResult) -> dict[int, float]:
    return {record.trial.seed: record.metrics[names.TEST_ACC1] for record in variant.finals}


def reference_of(name: str, known: dict[str, VariantResult]) -> str | None:
    """The variant that this one is compared with; None for a reference itself."""
    group = name.split("-la-")[0]
    for reference in ("kd", f"{group}-kd"):
        if reference in known and reference != name:
            return None if name.endswith("-kd") else reference
    return None


def wrong(variant: VariantResult, images: int | None) -> str:
    """Share of the training images that the teacher is wrong on, in the last epoch, over the final runs."""
    counts = [r.metrics[names.ADJUSTMENT_WRONG] for r in variant.finals if names.ADJUSTMENT_WRONG in r.metrics]
    return f"{100 * sum(counts) / len(counts) / images:.1f} %" if counts and images else "-"


def table(results: Results) -> list[str]:
    known = {variant.name: variant for variant in results.variants}
    images = {arm.name: arm.run.data.train_samples for arm in variants(results.spec)}
    compared: dict[str, Paired] = {}
    for name, variant in known.items():
        reference = reference_of(name, known)
        if reference and (pair := paired(by_seed(known[reference]), by_seed(variant))):
            compared[name] = pair
    corrected = dict(zip(compared, holm([pair.p for pair in compared.values()]), strict=True))
    lines = [
        "| variant | test acc1 % | difference to kd (95 %) | p | d | teacher wrong | winning values |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, variant in known.items():
        pair = compared.get(name)
        difference = f"{pair.difference:+.2f} ({pair.interval[0]:+.2f} to {pair.interval[1]:+.2f})" if pair else "-"
        p, effect = (f"{corrected[name]:.3f}", f"{pair.effect:+.1f}") if pair else ("-", "-")
        lines.append(
            f"| {name} | {variant.test or '-'} | {difference} | {p} | {effect} | {wrong(variant, images[name])} | "
            f"{format_values(variant.params) or '-'} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help="name of an experiment; default: the one that ran last")
    parser.add_argument("--home", type=Path, help="folder of experiments")
    arguments = parser.parse_args()
    print("\n".join(table(find(arguments.name, arguments.home).results)))


if __name__ == "__main__":
    main()
