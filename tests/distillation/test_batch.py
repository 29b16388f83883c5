import torch

from orchestrator.distillation.batch import ALONE, Batch, Mix


def test_one_process_has_the_whole_batch():
    values = torch.randn(5, requires_grad=True)
    rows = torch.randn(5, 3, requires_grad=True)
    assert ALONE.count == 1
    assert torch.equal(ALONE.mean(values), values.mean())
    assert not ALONE.mean(values).requires_grad
    assert torch.equal(ALONE.share_of_mean(values), values.mean())
    assert ALONE.share_of_mean(values).requires_grad
    assert ALONE.gather(rows) is rows


def test_the_main_label_has_the_larger_share_and_is_the_first_of_equals():
    mix = Mix(partner=torch.tensor([5, 6, 7, 8]), share=torch.tensor([0.51, 0.5, 0.49, 0.0]))
    assert mix.main_label(torch.tensor([1, 2, 3, 4])).tolist() == [1, 2, 7, 8]


def test_a_batch_is_of_one_process_and_unmixed_unless_told():
    batch = Batch(torch.tensor([1]), torch.tensor([7]), epoch=0, seed=3)
    assert batch.mix is None
    assert batch.workers is ALONE
