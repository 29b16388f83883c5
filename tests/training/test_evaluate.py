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
