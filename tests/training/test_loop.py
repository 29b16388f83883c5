import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from training_runs import CLASSES, DISTILL, NanAt, images, make_run, network, training_data, without_times

from orchestrator import names
from orchestrator.data import Augmentation, load_dataset, normalise, stratified_split
from orchestrator.distillation.temperature import dynamic_temperature, flsw_weights
from orchestrator.errors import CheckpointError, DataError, DivergenceError
from orchestrator.training import (
    Interrupted,
    TrainingData,
    TrainingSettings,
    evaluate,
    load_latest,
    predict_logits,
    save_checkpoint,
)
from orchestrator.training.optim import adamw, cosine, sgd

MEAN, STD = (0.3,), (0.2,)
CPU = torch.device("cpu")


class Spy(Augmentation):
    """Records what it is asked for."""

    def __init__(self) -> None:
        super().__init__(1, True)
        self.calls: list[tuple[list[int], int, int]] = []

    def __call__(self, images: Tensor, indices: Tensor, *, seed: int, view: int) -> Tensor:
        self.calls.append((indices.tolist(), seed, view))
        return super().__call__(images, indices, seed=seed, view=view)


def test_it_learns_the_digits() -> None:
    digits = load_dataset("digits")
    kept, held_out = stratified_split(digits.train.labels, 0.2, seed=0)
    data = TrainingData(
        digits.train.take(kept),
        digits.train.take(held_out),
        digits.mean,
        digits.std,
        Augmentation(digits.crop_padding, digits.flip),
    )
    torch.manual_seed(0)
    student = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    run = make_run(student, epochs=6, data=data)
    history = [run.train_epoch() for _ in range(6)]
    losses = [metrics[names.TRAIN_LOSS] for metrics in history]
    assert losses == sorted(losses, reverse=True)
    assert history[-1][names.VAL_ACC1] > 85
    assert run.done
    seen = evaluate(student, data.val, data.mean, data.std, batch_size=100)
    assert (history[-1][names.VAL_LOSS], history[-1][names.VAL_ACC1]) == pytest.approx((seen.loss, seen.acc1))
    assert run.best == max(
        ((epoch, metrics[names.VAL_ACC1]) for epoch, metrics in enumerate(history, 1)),
        key=lambda best: best[1],
    )


def test_full_batch_training_equals_the_textbook() -> None:
    student, data = network(), training_data()
    reference = copy.deepcopy(student)
    run = make_run(student, epochs=3, batch_size=101, data=data, schedule=cosine(3))
    optimizer = torch.optim.SGD(
        reference.parameters(),
        lr=0.05,
        momentum=0.9,
        weight_decay=1e-4,
        fused=False,
        foreach=False,
    )
    inputs = normalise(data.train.images, MEAN, STD)
    for epoch in range(3):
        rate = 0.05 * cosine(3)(epoch + 0.5)
        optimizer.param_groups[0]["lr"] = rate
        logits = reference(inputs)
        loss = F.cross_entropy(logits, data.train.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        metrics = run.train_epoch()
        assert metrics[names.TRAIN_LOSS] == pytest.approx(loss.item(), rel=1e-5)
        assert metrics[names.TRAIN_ACC1] == pytest.approx(
            100 * (logits.argmax(1) == data.train.labels).float().mean().item()
        )
        assert metrics[names.LEARNING_RATE] == pytest.approx(rate)
    for name, weight in student.state_dict().items():
        torch.testing.assert_close(weight, reference.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_every_sample_is_seen_once_an_epoch_in_a_new_order() -> None:
    spy = Spy()
    run = make_run(data=training_data(augmentation=spy))
    orders = []
    for epoch in range(2):
        spy.calls.clear()
        run.train_epoch()
        assert [len(indices) for indices, _, _ in spy.calls] == [32, 32, 32, 5]
        assert {(seed, view) for _, seed, view in spy.calls} == {(3, epoch)}
        orders.append([index for indices, _, _ in spy.calls for index in indices])
    assert all(sorted(order) == list(range(101)) for order in orders)
    assert orders[0] != orders[1]


def test_metrics_are_means_over_samples_with_a_last_smaller_batch() -> None:
    data, student = training_data(), network()
    expected = evaluate(student, data.train, MEAN, STD, batch_size=101)
    metrics = make_run(student, lr=1e-12, data=data).train_epoch()
    assert metrics[names.TRAIN_LOSS] == pytest.approx(expected.loss, rel=1e-5)
    assert metrics[names.TRAIN_ACC1] == pytest.approx(expected.acc1)
    assert metrics[names.TRAIN_LOSS_CE] == metrics[names.TRAIN_LOSS]
    assert metrics[names.TRAIN_LOSS_KD] == 0
    assert metrics[names.THROUGHPUT] > 0
    assert metrics[names.EPOCH_TIME] > 0
    assert not any(name.startswith(("temperature/", "adjustment/")) for name in metrics)


def test_distillation_metrics_describe_the_epoch() -> None:
    data, student, teacher = training_data(), network(), network(seed=5).eval()
    logits_student, logits_teacher = (
        predict_logits(model, data.train.images, MEAN, STD, batch_size=101, device=CPU) for model in (student, teacher)
    )
    weights = flsw_weights(logits_student, logits_teacher, 1)
    tau = dynamic_temperature(weights, 4, 20, 1, 8).double()
    output = DISTILL(logits_student, logits_teacher, data.train.labels)
    metrics = make_run(student, DISTILL, lr=1e-12, batch_size=101, data=data, teacher=teacher).train_epoch()

    assert metrics[names.TRAIN_LOSS] == pytest.approx(output.total.item(), rel=1e-4)
    assert metrics[names.TRAIN_LOSS_KD] == pytest.approx(output.loss_kd.item(), rel=1e-4)
    expected = {
        names.TEMPERATURE_MEAN: tau.mean(),
        names.TEMPERATURE_MIN: tau.min(),
        names.TEMPERATURE_MAX: tau.max(),
        names.TEMPERATURE_P10: tau.quantile(0.1),
        names.TEMPERATURE_P50: tau.quantile(0.5),
        names.TEMPERATURE_P90: tau.quantile(0.9),
        names.TEMPERATURE_CLAMPED_LOW: (tau == 1).double().mean(),
        names.TEMPERATURE_CLAMPED_HIGH: (tau == 8).double().mean(),
        names.ADJUSTMENT_WRONG: (logits_teacher.argmax(1) != data.train.labels).sum(),
        names.ADJUSTMENT_ADJUSTED: (logits_teacher.argmax(1) != data.train.labels).sum(),
    }
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value.item(), rel=1e-3), name
    assert 0 < metrics[names.TEMPERATURE_CLAMPED_LOW] < 1
    assert 0 < metrics[names.TEMPERATURE_CLAMPED_HIGH] < 1


def _dropout_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, CLASSES))


@pytest.mark.parametrize("optimizer", [sgd, adamw])
@pytest.mark.parametrize("make_network", [_dropout_network, lambda seed: network(seed, norm="batch")])
def test_a_restored_run_continues_bit_for_bit(tmp_path: Path, make_network: Any, optimizer: Any) -> None:
    def start(seed: int) -> Any:
        student = make_network(seed)
        return make_run(
            student,
            DISTILL,
            teacher=network(seed=5),
            optimizer=optimizer(student.parameters(), lr=0.01, weight_decay=1e-3),
            schedule=cosine(4, warmup_epochs=1.5),
            data=training_data(augmentation=Augmentation(1, True)),
            settings={"gradient_clip": 1.0},
        )

    whole = start(seed=0)
    expected = [without_times(whole.train_epoch()) for _ in range(4)]
    first = start(seed=0)
    history = [without_times(first.train_epoch()) for _ in range(2)]
    snapshot = first.state()
    save_checkpoint(tmp_path, snapshot)
    first.train_epoch()  # must not reach into the snapshot

    for source in (load_latest(tmp_path), snapshot, snapshot):
        second = start(seed=1)
        torch.manual_seed(77)
        second.restore(source)
        assert second.epoch == 2
        assert [*history, *(without_times(second.train_epoch()) for _ in range(2))] == expected
        assert second.best == whole.best
        for name, value in second.student.state_dict().items():
            assert torch.equal(value, whole.student.state_dict()[name])


def test_training_leaves_the_global_generator_alone() -> None:
    run = make_run(_dropout_network(0))
    before = torch.get_rng_state()
    run.train_epoch()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_foreign_checkpoint_is_refused() -> None:
    state = make_run(_dropout_network(0)).state()
    with pytest.raises(CheckpointError, match="trial-7: the checkpoint does not fit"):
        make_run(trial="trial-7").restore(state)


def test_divergence_names_trial_epoch_and_first_step() -> None:
    run = make_run(criterion=NanAt(4 + 3), trial="kd-003")
    run.train_epoch()
    with pytest.raises(DivergenceError, match=r"kd-003: the training loss .* epoch 2, step 3") as caught:
        run.train_epoch()
    assert (caught.value.epoch, caught.value.step) == (2, 3)
    assert run.epoch == 1


def test_a_huge_rate_diverges_with_an_error() -> None:
    with pytest.raises(DivergenceError, match=r"epoch 1, step [234]"):
        make_run(lr=1e30).train_epoch()


def test_divergence_in_the_last_step_shows_in_validation() -> None:
    run = make_run(_dropout_network(0), lr=3e38, batch_size=101)
    with pytest.raises(DivergenceError, match=r"validation logits .* epoch 1, step 1"):
        run.train_epoch()
    assert run.best is None


def test_validation_comes_when_due_and_at_the_end() -> None:
    run = make_run(epochs=5, settings={"eval_every": 2})
    assert [names.VAL_ACC1 in run.train_epoch() for _ in range(5)] == [False, True, False, True, True]


def test_best_is_the_first_of_equals() -> None:
    run = make_run(lr=1e-12)
    first, second = run.train_epoch(), run.train_epoch()
    assert run.best == (1, first[names.VAL_ACC1]) == (1, second[names.VAL_ACC1])


def test_the_gradient_is_clipped() -> None:
    student = network()
    before = [parameter.detach().clone() for parameter in student.parameters()]
    optimizer = sgd(student.parameters(), lr=1.0, momentum=0.0, nesterov=False)
    run = make_run(student, batch_size=101, optimizer=optimizer, settings={"gradient_clip": 1e-3})
    run.train_epoch()
    moved = torch.stack([(a - b).norm() for a, b in zip(student.parameters(), before, strict=True)]).norm()
    assert moved.item() == pytest.approx(1e-3, rel=1e-2)


def test_bf16_stays_close_to_float32() -> None:
    float32, bf16 = (
        make_run(network(), DISTILL, teacher=network(5), settings={"precision": precision}).train_epoch()
        for precision in ("float32", "bf16")
    )
    assert bf16[names.TRAIN_LOSS] == pytest.approx(float32[names.TRAIN_LOSS], rel=0.05)
    assert bf16[names.TRAIN_LOSS] != float32[names.TRAIN_LOSS]


def test_a_stop_interrupts_and_the_run_continues_from_its_state() -> None:
    whole = make_run()
    expected = [without_times(whole.train_epoch()) for _ in range(2)][1]
    stop = False
    run = make_run(should_stop=lambda: stop)
    run.train_epoch()
    state = run.state()
    run._next_poll = 0.0
    stop = True
    with pytest.raises(Interrupted):
        run.train_epoch()
    stop = False
    run.restore(state)
    assert without_times(run.train_epoch()) == expected


def test_stop_is_polled_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    now, polls = 100.0, []
    monkeypatch.setattr("orchestrator.training.loop.time.monotonic", lambda: now)

    def tick(*_: Any) -> None:
        nonlocal now
        now += 0.15

    student = network()
    student.register_forward_pre_hook(tick)
    run = make_run(student, batch_size=10, settings={"eval_every": 2}, should_stop=lambda: bool(polls.append(now)))
    run.train_epoch()
    assert polls == pytest.approx([100.0 + 0.3 * i for i in range(6)])


def test_settings_and_data_are_checked() -> None:
    for changes in ({"epochs": 0}, {"batch_size": 0}, {"accumulation": 0}, {"eval_every": 0}, {"gradient_clip": 0.0}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            TrainingSettings(**({"epochs": 1, "batch_size": 1, "seed": 0} | changes))
    with pytest.raises(ValueError, match="needs a teacher"):
        make_run(criterion=DISTILL)
    with pytest.raises(DataError, match="no val images"):
        TrainingData(images(4), images(4).take(torch.arange(0)), MEAN, STD, Augmentation(0, False))
