"""Results from records made by hand."""

import csv
import io
import json
import re

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from orchestrator import load_spec, names
from orchestrator.analysis.formats import format_values, short_names
from orchestrator.analysis.results import Results
from orchestrator.analysis.rows import to_csv
from orchestrator.search.trials import Phase, Record, Status, Trial

LR = "training.optimizer.lr"
MAX = "distillation.temperature.max"
SPEC = {
    "name": "exp",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet14"},
    "student": {"model": "resnet8"},
    "search": {
        "space": {LR: {"type": "loguniform", "low": 0.01, "high": 0.2}},
        "variants": {"kd": {}, "la+dtd": {}, "empty": {}},
        "final_seeds": 3,
    },
}
LOSS = {**SPEC, "search": {**SPEC["search"], "metric": "val/loss", "mode": "min"}}


def record(id, variant, phase=Phase.SEARCH, status=Status.FINISHED, index=0, params=None, **metrics):
    named = {name.replace("_", "/", 1): value for name, value in metrics.items()}
    trial = Trial(id, phase, variant, index, seed=10 + index, params=params or {LR: 0.01 * (index + 1)})
    return Record(trial, status, named, epochs=4, seconds=1.23456)


def results(*records, spec=SPEC):
    return Results(load_spec(spec), {record.trial.id: record for record in records})


def one(found, name="kd"):
    return next(variant for variant in found.variants if variant.name == name)


def test_without_records_every_variant_is_empty():
    found = results()
    assert [variant.name for variant in found.variants] == ["kd", "la+dtd", "empty"]
    for variant in found.variants:
        assert (variant.best, variant.finals, variant.statuses, variant.params) == (None, (), {}, {})
        assert (variant.test, variant.val) == (None, None)
    assert found.summary_metrics() == {}
    assert found.to_dict()["trials"] == []
    assert found.to_markdown()


def test_a_spec_without_variants_has_one():
    spec = {**SPEC, "search": {"final_seeds": 1}}
    found = results(record("a", "default", val_acc1=90.0), spec=spec)
    assert [variant.name for variant in found.variants] == ["default"]
    assert found.variants[0].best.trial.id == "a"


@pytest.mark.parametrize(("spec", "best"), [(SPEC, "b"), (LOSS, "c")])
def test_the_best_is_the_best_by_metric_and_mode(spec, best):
    found = results(
        record("a", "kd", index=0, val_acc1=90.0, val_loss=0.3),
        record("b", "kd", index=1, val_acc1=95.0, val_loss=0.2),
        record("c", "kd", index=2, val_acc1=92.0, val_loss=0.1),
        record("d", "la+dtd", index=0, val_acc1=99.0, val_loss=0.01),
        spec=spec,
    )
    assert one(found).best.trial.id == best
    assert one(found).params == one(found).best.trial.params
    assert one(found, "la+dtd").best.trial.id == "d"


def test_stopped_trials_win_only_where_none_finished():
    stopped = record("b", "kd", status=Status.STOPPED, index=1, val_acc1=95.0)
    finished = record("a", "kd", val_acc1=90.0)
    assert one(results(finished, stopped)).best.trial.id == "a"
    assert one(results(stopped)).best.trial.id == "b"


@pytest.mark.parametrize("status", [Status.FAILED, Status.INTERRUPTED, Status.RUNNING])
def test_trials_without_a_result_never_win(status):
    found = results(
        record("a", "kd", status=status, val_acc1=99.0),
        record("b", "kd", index=1, val_acc1=50.0),
        record("c", "la+dtd", status=status, val_acc1=99.0),
    )
    assert one(found).best.trial.id == "b"
    assert one(found, "la+dtd").best is None


def test_the_best_is_chosen_among_search_trials_alone():
    found = results(
        record("a", "kd", val_acc1=90.0),
        record("f", "kd", Phase.FINAL, val_acc1=99.0, test_acc1=98.0),
    )
    assert one(found).best.trial.id == "a"


def test_finals_are_summed_up_and_failed_ones_left_out():
    found = results(
        record("f2", "kd", Phase.FINAL, index=1, val_acc1=92.0, test_acc1=98.0),
        record("f1", "kd", Phase.FINAL, index=0, val_acc1=90.0, test_acc1=96.0),
        record("f3", "kd", Phase.FINAL, Status.FAILED, index=2, val_acc1=10.0, test_acc1=10.0),
        record("f4", "kd", Phase.FINAL, Status.INTERRUPTED, index=3, test_acc1=10.0),
        record("f5", "kd", Phase.FINAL, Status.RUNNING, index=4, test_acc1=10.0),
        record("a", "kd", val_acc1=1.0, test_acc1=1.0),
        record("g", "la+dtd", Phase.FINAL, test_acc1=50.0),
    )
    kd = one(found)
    assert [final.trial.id for final in kd.finals] == ["f1", "f2"]
    assert (kd.test.count, kd.test.mean) == (2, 97.0)
    assert kd.test.sd == pytest.approx(2**0.5)
    assert (kd.val.count, kd.val.mean) == (2, 91.0)
    assert (one(found, "la+dtd").test.mean, one(found, "la+dtd").test.sd) == (50.0, None)


def test_outcomes_of_search_trials_are_counted():
    found = results(
        record("a", "kd"),
        record("b", "kd", status=Status.STOPPED, index=1),
        record("c", "kd", status=Status.STOPPED, index=2),
        record("f", "kd", Phase.FINAL),
        record("t", "0123abcd", Phase.TEACHER),
    )
    assert one(found).statuses == {Status.FINISHED: 1, Status.STOPPED: 2}
    assert (found.count(Status.FINISHED), found.count(Status.FAILED)) == (3, 0)
    assert [teacher.trial.id for teacher in found.teachers] == ["t"]


FULL = [
    record("teacher-0123abcd", "0123abcd", Phase.TEACHER, params={"x": 1}, val_acc1=99.0),
    record("kd-000", "kd", val_acc1=90.0, params={LR: 0.123456}),
    record("la+dtd-000", "la+dtd", val_acc1=93.0, params={LR: 0.05, MAX: 12.0, "training.epochs": 7}),
    record("la+dtd-001", "la+dtd", status=Status.FAILED, index=1),
    *(
        record(f"{name}-final-{n}", name, Phase.FINAL, index=n, val_acc1=91.0 + n, test_acc1=90.0 + n)
        for name in ("kd", "la+dtd")
        for n in range(3)
    ),
]
FULL[3].reason = 'DivergenceError: "loss", became NaN\nin epoch 2'


def test_the_dictionary_is_json_with_everything_in_it():
    found = results(*FULL)
    content = json.loads(found.to_json())
    assert content == json.loads(json.dumps(found.to_dict(), allow_nan=False))
    spec = load_spec(SPEC)
    assert (content["name"], content["id"], content["hash"]) == ("exp", spec.id, spec.hash)
    assert (content["metric"], content["mode"]) == ("val/acc1", "max")
    kd, la, empty = content["variants"]
    assert kd["best"]["params"] == {LR: 0.123456}
    assert kd["test/acc1"] == {
        "n": 3,
        "mean": 91.0,
        "sd": 1.0,
        "interval_95": pytest.approx([91 - 2.484138, 91 + 2.484138]),
    }
    assert kd["final_seeds"] == [10, 11, 12]
    assert la["trials"] == {"finished": 1, "failed": 1}
    assert (empty["best"], empty["test/acc1"], empty["val/acc1"]) == (None, None, None)
    assert len(content["trials"]) == len(FULL)
    compared, empty = content["comparisons"]
    assert (compared["variant"], compared["reference"], compared["n"], compared["p_holm"]) == ("la+dtd", "kd", 3, 1.0)
    assert (empty["variant"], empty["difference"], empty["shown"]) == ("empty", None, False)
    failed = content["trials"][3]
    assert (failed["status"], failed["reason"]) == ("failed", FULL[3].reason)
    assert (failed["phase"], failed["epochs"], failed["seconds"]) == ("search", 4, 1.235)


def test_the_csv_reads_back_one_row_a_trial():
    rows = list(csv.DictReader(io.StringIO(to_csv(results(*FULL).trial_rows()))))
    assert [row["id"] for row in rows] == [record.trial.id for record in FULL]
    for row, entry in zip(rows, FULL, strict=True):
        assert row["status"] == entry.status
        assert row["variant"] == entry.trial.variant
        assert row["reason"] == (entry.reason or "")
        for path, value in entry.trial.params.items():
            assert float(row[f"params.{path}"]) == value
        for name, value in entry.metrics.items():
            assert float(row[name]) == value
    assert rows[1][f"params.{MAX}"] == ""
    assert to_csv(results().trial_rows()) == "\n"


def test_frames_are_indexed_by_what_a_row_is():
    found = results(*FULL)
    variants, trials, comparisons = found.to_frame(), found.trials_frame(), found.comparisons_frame()
    assert list(variants.index) == ["kd", "la+dtd", "empty"]
    assert variants.loc["kd", "test/acc1 mean"] == 91.0
    assert variants.loc["la+dtd", f"params.{MAX}"] == 12.0
    assert variants.loc["la+dtd", ["reference", "difference", "p_holm"]].tolist() == ["kd", 0.0, 1.0]
    assert list(trials.index) == [record.trial.id for record in FULL]
    assert trials["test/acc1"].count() == 6
    assert list(comparisons.index) == ["la+dtd", "empty"]
    assert comparisons.loc["la+dtd", "difference_low"] == 0.0
    assert results().trials_frame().empty


def test_the_csv_of_variants_has_what_the_frame_has():
    rows = list(csv.DictReader(io.StringIO(to_csv(results(*FULL).variant_rows()))))
    assert [row["variant"] for row in rows] == ["kd", "la+dtd", "empty"]
    assert (rows[1]["difference"], rows[1]["p_holm"], rows[1]["test"]) == ("0.0", "1.0", "paired t")
    assert (rows[0]["difference"], rows[2]["difference"]) == ("", "")


def test_the_table_is_well_formed_markdown():
    text = results(*FULL).to_markdown()
    table = [line for line in text.split("\n\n")[1].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert {len(row) for row in cells} == {7}
    assert re.fullmatch(r"(\| -+ )+\|", table[1])
    assert [row[0] for row in cells[2:]] == ["kd", "la+dtd", "empty"]
    assert cells[2][1:] == ["3", "91.00 ± 1.00", "88.52 to 93.48", "90.00", "1", "lr 0.1235"]
    assert cells[3][4:] == ["93.00", "2", "lr 0.05, max 12, epochs 7"]
    assert cells[4][1:] == ["0", "-", "-", "-", "0", "-"]
    differences = text.split("\n\n")[2].splitlines()
    assert differences[0] == "| variant | n | difference to kd | 95% interval | p (Holm) | Hedges' g | detectable |"
    assert differences[2:] == ["| la+dtd | 3 | +0.00 | +0.00 to +0.00 | 1.000 | +0.0 | - |"]
    assert "No difference shown: no variant differs from kd by more than chance" in text


def test_the_markdown_tells_where_nothing_was_tested():
    assert "over 3 fresh seeds" in results(*FULL).to_markdown()
    text = results(spec={**SPEC, "search": {**SPEC["search"], "final_seeds": 0}}).to_markdown()
    assert "fresh seed" not in text
    assert "search.final_seeds is 0" in text


def test_why_there_are_no_winning_values():
    fixed = {**SPEC, "search": {"variants": {"kd": {}}}}
    assert one(results(record("a", "kd", params={"x": 0.5}, val_acc1=1.0))).chosen == "x 0.5"
    assert one(results()).chosen == "-"
    assert one(results(record("a", "kd", status=Status.RUNNING))).chosen == "-"
    assert one(results(record("a", "kd", status=Status.FAILED))).chosen == "all trials failed"
    bare = record("a", "kd", val_acc1=1.0)
    bare.trial = Trial("a", Phase.SEARCH, "kd", 0, 0)
    assert one(results(bare, spec=fixed)).chosen == "none searched"


def test_values_that_hold_a_bar_do_not_break_the_table():
    odd = record("kd-000", "kd", val_acc1=90.0, params={"distillation.temperature": {"options": {"a": "x|y"}}})
    line = next(line for line in results(odd).to_markdown().splitlines() if line.startswith("| kd "))
    assert len(re.split(r"(?<!\\)\|", line.strip("|"))) == 7


def test_summary_metrics_are_names_that_mlflow_takes(tmp_path):
    summary = results(*FULL).summary_metrics()
    assert len(summary) == 8
    assert summary["kd/test_acc1_mean"] == 91.0
    assert summary["kd/test_acc1_sd"] == 1.0
    assert summary["kd/best_val_acc1"] == 90.0
    assert (summary["la dtd/difference_to_reference"], summary["la dtd/p_holm"]) == (0.0, 1.0)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = client.create_run(client.create_experiment("x", str(tmp_path))).info.run_id
    client.log_batch(run_id, metrics=[Metric(name, value, 0, 0) for name, value in summary.items()])
    assert client.get_run(run_id).data.metrics == summary


def test_variants_whose_names_are_alike_keep_their_own_metrics():
    variants = {"la+dtd": {}, "la-dtd": {}, "la_dtd": {}, "la.dtd": {}}
    spec = {**SPEC, "search": {**SPEC["search"], "variants": variants}}
    found = results(*(record(name, name, val_acc1=float(n), index=n) for n, name in enumerate(variants)), spec=spec)
    assert sorted(found.summary_metrics().values()) == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("paths", "short"),
    [
        ([LR], ["lr"]),
        ([LR, MAX], ["lr", "max"]),
        ([LR, "teacher.optimizer.lr"], ["training.optimizer.lr", "teacher.optimizer.lr"]),
        (["student.width", "teacher.width", "seed"], ["student.width", "teacher.width", "seed"]),
        (["width", "student.width"], ["width", "student.width"]),
        ([], []),
    ],
)
def test_short_names_tell_paths_apart(paths, short):
    assert short_names(paths) == dict(zip(paths, short, strict=True))
    assert len(set(short)) == len(short)


def test_values_are_shown_short():
    values = {LR: 0.0123456, MAX: 12.0, "training.epochs": 100000, "distillation.adjustment.rule": "none"}
    assert format_values(values) == "lr 0.01235, max 12, epochs 100000, rule none"
    assert format_values({}) == ""


def test_the_metric_that_is_chosen_by_is_in_the_summary_under_its_name():
    summary = results(record("a", "kd", val_loss=0.25, val_acc1=1.0), spec=LOSS).summary_metrics()
    assert summary == {"kd/best_val_loss": 0.25}
    assert names.VAL_LOSS.replace("/", "_") in "kd/best_val_loss"
