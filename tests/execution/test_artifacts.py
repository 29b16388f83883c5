"""The tables that a trial leaves, against ones made by hand."""

import csv
import io

from orchestrator.execution.artifacts import class_table, mistake_table, temperature_table
from orchestrator.training import Evaluation, Mistake
from orchestrator.training.evaluate import ClassCount


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_the_table_of_classes() -> None:
    counts = (ClassCount(8, 6, 7), ClassCount(4, 1, 5), ClassCount(0, 0, 0))
    table = class_table(["cat", "a, b", "none"], Evaluation(loss=1.0, acc1=58.3, ece=2.0, classes=counts))
    assert rows(table) == [
        ["class", "images", "correct", "predicted", "acc1", "precision"],
        ["cat", "8", "6", "7", "75.00", "85.71"],
        ["a, b", "4", "1", "5", "25.00", "20.00"],
        ["none", "0", "0", "0", "", ""],
    ]
    assert len(rows(class_table(["cat"], None))) == 1


def test_the_table_of_mistakes() -> None:
    mistakes = [Mistake(0, 1, 2), Mistake(0, 2, 3), Mistake(2, 0, 9)]
    assert rows(mistake_table(["cat", "a, b", "dog"], mistakes)) == [
        ["class", "repaired", "taken_for", "times"],
        ["dog", "9", "cat", "9"],
        ["cat", "5", "dog", "3"],
    ]


def test_the_table_of_temperatures() -> None:
    bounds = [2.0, 12.0]
    epochs = [
        {"epoch": 3, "counts": [1, 0, 2, 5], "bounds": bounds},
        {"epoch": 4, "counts": [0, 8, 0, 0], "bounds": bounds},
    ]
    assert rows(temperature_table(epochs)) == [
        ["epoch", "2", "4.5", "7", "9.5"],
        ["3", "1", "0", "2", "5"],
        ["4", "0", "8", "0", "0"],
    ]


def test_temperatures_whose_bounds_changed_are_told_with_them() -> None:
    epochs = [
        {"epoch": 1, "counts": [1, 0, 2, 5], "bounds": [2.0, 12.0]},
        {"epoch": 2, "counts": [0, 8, 0, 0], "bounds": [2.0, 10.0]},
    ]
    assert rows(temperature_table(epochs)) == [
        ["epoch", "min", "max", "0", "0.25", "0.5", "0.75"],
        ["1", "2.0", "12.0", "1", "0", "2", "5"],
        ["2", "2.0", "10.0", "0", "8", "0", "0"],
    ]
