import pytest
import torch
from torch import Tensor
from training_runs import CLASSES, make_run, network

from orchestrator import names
from orchestrator.distillation.adjustment import Adjustment, NoAdjustment, ProbabilityShift
from orchestrator.distillation.correlation import Correlation
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.decoupled import DecoupledKD
from orchestrator.distillation.logit_loss import LogitLoss, SoftTargets
from orchestrator.distillation.temperature import ConstantTemperature, GlobalMean, Temperature
from orchestrator.training import SINGLE
from orchestrator.training.meter import EpochMeter, Mistake


def epoch_of(loss: LogitLoss, sizes: tuple[int, ...] = (6, 6, 1)) -> tuple[dict[str, float], list[float], float]:
    """The meter's reading, each batch's loss_kd, and the share of samples that agree, in percent."""
    criterion = Criterion(0.3, 0.7, ConstantTemperature(4), ProbabilityShift(), loss)
    meter, losses, agreeing = EpochMeter(SINGLE), [], 0
    for step, size in enumerate(sizes, start=1):
        student, teacher = torch.randn(2, size, CLASSES)
        target = torch.zeros(size, dtype=torch.int64)
        output = criterion(student, teacher, target)
        meter.add((step, size), output, student, target, output.total, {})
        losses.append(output.loss_kd.item())
        agreeing += sum(int(a) == int(b) for a, b in zip(student.argmax(1), teacher.argmax(1), strict=True))
    return meter.read("trial", 1), losses, 100 * agreeing / sum(sizes)


class Given(Temperature):
    """Tells the student's first logit as the temperature."""

    def unclamped(self, logits_student: Tensor, logits_teacher: Tensor, global_mean: GlobalMean) -> Tensor:
        return logits_student[:, 0].detach()


def test_the_histogram_counts_every_sample_between_the_bounds() -> None:
    # Bins are 0.25 wide: the first holds 2.0 and what a bound raised to it, the last what the upper one lowered.
    given = [[2.0, 2.24, 2.26, -3.0], [7.0, 11.9, 12.0, 40.0, 3.1]]
    criterion = Criterion(0.3, 0.7, Given(4, 2, 12), NoAdjustment())
    meter = EpochMeter(SINGLE)
    for step, values in enumerate(given, start=1):
        student = torch.zeros(len(values), CLASSES)
        student[:, 0] = torch.tensor(values)
        target = torch.zeros(len(values), dtype=torch.int64)
        output = criterion(student, student.clone(), target)
        meter.add((step, len(values)), output, student, target, output.total, {})
    meter.read("trial", 1)
    counts = meter.histogram(2, 12)
    assert counts is not None
    assert len(counts) == 40
    assert {bin: count for bin, count in enumerate(counts) if count} == {0: 3, 1: 1, 4: 1, 20: 1, 39: 3}
    assert meter.histogram(4, 4) is None


@pytest.mark.parametrize("loss", [SoftTargets(), DecoupledKD(0.5, 2), Correlation(0.5, 2)])
def test_samples_weigh_the_same_whatever_their_batch(loss: LogitLoss) -> None:
    metrics, losses, agreement = epoch_of(loss)
    expected = (6 * losses[0] + 6 * losses[1] + losses[2]) / 13
    assert metrics[names.TRAIN_LOSS_KD] == pytest.approx(expected)
    assert 0 < metrics[names.TRAIN_AGREEMENT] < 100
    assert metrics[names.TRAIN_AGREEMENT] == pytest.approx(agreement)


def test_terms_are_metrics_that_add_up() -> None:
    metrics, *_ = epoch_of(DecoupledKD(0.5, 2))
    tckd, nckd = metrics[names.loss_metric("tckd")], metrics[names.loss_metric("nckd")]
    assert 0.5 * tckd + 2 * nckd == pytest.approx(metrics[names.TRAIN_LOSS_KD])
    metrics, *_ = epoch_of(Correlation(0.5, 2))
    inter, intra = metrics[names.loss_metric("inter")], metrics[names.loss_metric("intra")]
    assert 0.5 * inter + 2 * intra == pytest.approx(metrics[names.TRAIN_LOSS_KD])
    assert all(map(names.is_metric, metrics))


def test_a_run_reports_terms_and_agreement_only_where_there_are_any() -> None:
    criterion = Criterion(0.3, 0.7, ConstantTemperature(4), ProbabilityShift(), DecoupledKD())
    with_teacher = make_run(criterion=criterion, teacher=network(seed=5)).train_epoch()
    assert {names.loss_metric("tckd"), names.loss_metric("nckd"), names.TRAIN_AGREEMENT} <= with_teacher.keys()
    alone = make_run().train_epoch()
    assert not {names.loss_metric("tckd"), names.TRAIN_AGREEMENT} & alone.keys()


@pytest.mark.parametrize("adjustment", [ProbabilityShift(), NoAdjustment()], ids=lambda rule: type(rule).__name__)
def test_the_mistakes_that_were_repaired_are_told_apart(adjustment: Adjustment) -> None:
    criterion = Criterion(0.3, 0.7, ConstantTemperature(4), adjustment)
    labels, taken_for = (
        torch.tensor([[0, 0, 0, 1, 2], [0, 0, 1, 2, 2]]),
        torch.tensor([[2, 2, 0, 0, 2], [1, 2, 0, 2, 2]]),
    )
    meters = EpochMeter(SINGLE, keeps_mistakes=True), EpochMeter(SINGLE)
    for step, (target, top) in enumerate(zip(labels, taken_for, strict=True), start=1):
        student, teacher = torch.zeros(5, CLASSES), torch.nn.functional.one_hot(top, CLASSES).float()
        output = criterion(student, teacher, target)
        for meter in meters:
            meter.add((step, 5), output, student, target, output.total, {})
    repaired = [] if isinstance(adjustment, NoAdjustment) else [Mistake(0, 1, 1), Mistake(0, 2, 3), Mistake(1, 0, 2)]
    assert [meter.mistakes() for meter in meters] == [repaired, []]


def test_a_run_has_them_of_its_last_epoch() -> None:
    criterion = Criterion(0.3, 0.7, ConstantTemperature(4), ProbabilityShift())
    run = make_run(criterion=criterion, teacher=network(seed=5), epochs=2)
    assert run.train_epoch()[names.ADJUSTMENT_ADJUSTED]
    assert run.mistakes == []
    adjusted = run.train_epoch()[names.ADJUSTMENT_ADJUSTED]
    assert sum(mistake.samples for mistake in run.mistakes) == adjusted > 0
