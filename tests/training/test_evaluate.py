import pytest
import torch
from torch import nn
from training_runs import images, network

from orchestrator.data import normalise
from orchestrator.training import NonFiniteLogitsError, evaluate, predict_logits

MEAN, STD = (0.3,), (0.2,)
CPU = torch.device("cpu")


@pytest.mark.parametrize("batch_size", [7, 30, 100])
def test_logits_loss_and_accuracy_equal_the_plain_computation(batch_size: int) -> None:
    model, data = network(norm="batch"), images(30)
    model.eval()
    with torch.no_grad():
        expected = model(normalise(data.images, MEAN, STD))
    logits = predict_logits(model, data.images, MEAN, STD, batch_size=batch_size, device=CPU)
    torch.testing.assert_close(logits, expected)
    assert not logits.requires_grad

    seen = evaluate(model, data, MEAN, STD, batch_size=batch_size)
    assert seen.loss == pytest.approx(-expected.log_softmax(1)[torch.arange(30), data.labels].mean().item(), rel=1e-5)
    assert seen.acc1 == pytest.approx(100 * (expected.argmax(1) == data.labels).double().mean().item())


class _Sharp(nn.Module):
    """A network whose confidence is spread over many bins."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network(norm="batch")

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits = self.network(inputs)
        return 12 * (logits - logits.mean(0)) / logits.std(0)


def test_calibration_and_counts_by_class_equal_slow_ones() -> None:
    model, data = _Sharp().eval(), images(60)
    with torch.no_grad():
        logits = model(normalise(data.images, MEAN, STD))
    samples = list(zip(logits.softmax(1).tolist(), data.labels.tolist(), strict=True))
    guesses = [(row.index(max(row)), max(row), label) for row, label in samples]
    ece, filled = 0.0, 0
    for number in range(15):
        inside = [(guess == label, top) for guess, top, label in guesses if number / 15 < top <= (number + 1) / 15]
        if inside:
            right = sum(hit for hit, _ in inside) / len(inside)
            ece += len(inside) / 60 * abs(right - sum(top for _, top in inside) / len(inside))
            filled += 1
    assert filled > 3
    seen = evaluate(model, data, MEAN, STD, batch_size=60)
    assert seen.ece == pytest.approx(100 * ece, rel=1e-4)
    for number, counted in enumerate(seen.classes):
        assert counted.images == sum(label == number for _, _, label in guesses)
        assert counted.correct == sum(guess == label == number for guess, _, label in guesses)
        assert counted.predicted == sum(guess == number for guess, _, _ in guesses)
    assert len(set(seen.classes)) > 1


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_and_statistics_stay(training: bool) -> None:
    model = network(norm="batch").train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, images(10), MEAN, STD, batch_size=4)
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class _Breaks(nn.Module):
    """Gives -inf, which leaves the loss finite, for one image."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits = inputs.flatten(1)[:, :4].clone()
        logits[-1, (logits.shape[1] - 1)] = float("-inf")
        return logits


def test_logits_that_are_not_finite_are_an_error() -> None:
    data = images(6)
    with pytest.raises(NonFiniteLogitsError, match="image 3 "):
        predict_logits(_Breaks(), data.images, MEAN, STD, batch_size=4, device=CPU)
    with pytest.raises(NonFiniteLogitsError, match="2 of 6 images"):
        evaluate(_Breaks(), data, MEAN, STD, batch_size=4)
