import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.catalog import ADJUSTMENTS
from orchestrator.distillation.adjustment import (
    Adjustment,
    LabelSmoothing,
    NoAdjustment,
    ProbabilityShift,
    label_smoothing_targets,
    probability_shift,
    wrong_predictions,
)

RULES = [NoAdjustment(), ProbabilityShift(), LabelSmoothing(0.1)]


@st.composite
def batches(draw):
    """Teacher logits with many ties, and labels."""
    batch, classes = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    row = st.lists(st.sampled_from([-1e4, -2.0, 0.0, 1.5, 1e4]), min_size=classes, max_size=classes)
    rows = draw(st.lists(row, min_size=batch, max_size=batch))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=batch, max_size=batch))
    return torch.tensor(rows), torch.tensor(labels)


def slow_wrong(row, label):
    return row[label] != max(row)


def slow_shift(row, label):
    top = row.index(max(row))
    shifted = list(row)
    if slow_wrong(row, label):
        shifted[label], shifted[top] = row[top], row[label]
    return shifted


def slow_smoothing(probs, row, label, epsilon):
    if not slow_wrong(row, label):
        return probs
    return [(1 - epsilon) * (c == label) + epsilon / len(row) for c in range(len(row))]


@settings(deadline=None)
@given(batch=batches())
def test_wrong_predictions_follow_the_definition(batch):
    logits, target = batch
    pairs = zip(logits.tolist(), target.tolist(), strict=True)
    assert wrong_predictions(logits, target).tolist() == [slow_wrong(row, label) for row, label in pairs]


def test_a_tie_with_the_largest_logit_is_right():
    logits = torch.tensor([[2.0, 2.0, 1.0]]).expand(3, 3)
    assert wrong_predictions(logits, torch.tensor([0, 1, 2])).tolist() == [False, False, True]


@settings(deadline=None)
@given(batch=batches())
def test_probability_shift_follows_the_definition(batch):
    logits, target = batch
    pairs = zip(logits.tolist(), target.tolist(), strict=True)
    assert probability_shift(logits, target).tolist() == [slow_shift(row, label) for row, label in pairs]


@settings(deadline=None)
@given(batch=batches())
def test_after_the_shift_the_teacher_is_right(batch):
    logits, target = batch
    assert not wrong_predictions(probability_shift(logits, target), target).any()


@pytest.mark.parametrize("tau", [0.5, 1, 4, 20])
def test_shift_commutes_with_softmax(tau):
    logits, target = 5 * torch.randn(50, 7), torch.randint(7, (50,))
    shifted_first = (probability_shift(logits, target) / tau).softmax(dim=1)
    shifted_last = probability_shift((logits / tau).softmax(dim=1), target)
    torch.testing.assert_close(shifted_first, shifted_last)


@settings(deadline=None)
@given(batch=batches(), epsilon=st.sampled_from([0, 0.1, 0.5, 1]))
def test_label_smoothing_follows_the_definition(batch, epsilon):
    logits, target = batch
    probs = (logits / 4).softmax(dim=1)
    rows = zip(probs.tolist(), logits.tolist(), target.tolist(), strict=True)
    expected = torch.tensor([slow_smoothing(*row, epsilon) for row in rows])
    smoothed = label_smoothing_targets(probs, logits, target, epsilon)
    torch.testing.assert_close(smoothed, expected)
    torch.testing.assert_close(smoothed.sum(dim=1), torch.ones(len(target)))


@pytest.mark.parametrize("epsilon", [0, 0.1, 1])
def test_the_rule_gives_the_targets_of_the_function(epsilon):
    logits, target = 3 * torch.randn(50, 4), torch.randint(4, (50,))
    log_probs = (logits / 4).log_softmax(dim=1)
    adjusted = LabelSmoothing(epsilon).adjust_log_probs(log_probs, wrong_predictions(logits, target), target)
    expected = label_smoothing_targets(log_probs.exp(), logits, target, epsilon)
    torch.testing.assert_close(adjusted.exp(), expected)


@pytest.mark.parametrize("rule", [*RULES, Adjustment()])
def test_right_samples_pass_untouched_bit_for_bit(rule):
    logits = torch.randn(50, 7)
    target = logits.argmax(dim=1)
    wrong = wrong_predictions(logits, target)
    log_probs = logits.log_softmax(dim=1)
    assert torch.equal(rule.adjust_logits(logits, target), logits)
    assert torch.equal(rule.adjust_log_probs(log_probs, wrong, target), log_probs)


def test_right_samples_pass_label_smoothing_bit_for_bit():
    logits = torch.randn(50, 7)
    probs = logits.softmax(dim=1)
    assert torch.equal(label_smoothing_targets(probs, logits, logits.argmax(dim=1), 0.3), probs)


@pytest.mark.parametrize("rule", RULES)
def test_record_of_adjusted_samples(rule):
    wrong = torch.tensor([True, False, True])
    expected = [False] * 3 if isinstance(rule, NoAdjustment) else wrong.tolist()
    assert rule.adjusted(wrong).tolist() == expected


@pytest.mark.parametrize("rule", RULES)
def test_arguments_are_not_changed(rule):
    logits, target = torch.randn(20, 4), torch.randint(4, (20,))
    wrong, log_probs = wrong_predictions(logits, target), logits.log_softmax(dim=1)
    arguments = (logits, target, wrong, log_probs)
    before = [argument.clone() for argument in arguments]
    rule.adjust_logits(logits, target)
    rule.adjust_log_probs(log_probs, wrong, target)
    assert all(map(torch.equal, arguments, before))


def test_functions_return_new_tensors_without_gradient():
    logits = torch.randn(20, 4, requires_grad=True)
    target = logits.argmax(dim=1)  # all right: nothing to change
    probs = logits.softmax(dim=1)
    for result, source in (
        (probability_shift(logits, target), logits),
        (label_smoothing_targets(probs, logits, target, 0.1), probs),
    ):
        assert result.data_ptr() != source.data_ptr()
        assert not result.requires_grad


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_epsilon_outside_0_to_1_is_refused(epsilon):
    with pytest.raises(ValueError, match=rf"epsilon must be in \[0, 1\], got {epsilon}"):
        LabelSmoothing(epsilon)
    with pytest.raises(ValueError, match=rf"epsilon must be in \[0, 1\], got {epsilon}"):
        label_smoothing_targets(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([0]), epsilon)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"target must have shape \[B\].* got \[3\] and \[2, 5\]"):
        probability_shift(torch.ones(2, 5), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"got \[2, 5\] and \[2, 4\]"):
        label_smoothing_targets(torch.ones(2, 5), torch.ones(2, 4), torch.zeros(2, dtype=torch.long), 0.1)


@pytest.mark.parametrize(
    ("name", "implementation"),
    [("none", NoAdjustment), ("probability_shift", ProbabilityShift), ("label_smoothing", LabelSmoothing)],
)
def test_the_catalog_finds_the_rules(name, implementation):
    assert ADJUSTMENTS[name] is implementation
