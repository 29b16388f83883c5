import pytest
import torch
from torch import distributed, multiprocessing, nn

from orchestrator.models import build_model
from orchestrator.models.norm import MAX_GROUPS, make_norm

SPLIT = (3, 5)  # samples of each worker: unequal, so that a mean of means would be wrong


@pytest.mark.parametrize("channels", [1, 7, 8, 16, 18, 35, 64])
def test_groups_divide_the_channels(channels):
    norm = make_norm("group", channels)
    assert channels % norm.num_groups == 0
    assert norm.num_groups <= MAX_GROUPS
    assert norm(torch.randn(2, channels, 4, 4)).shape == (2, channels, 4, 4)


def test_common_widths_use_all_groups():
    assert {make_norm("group", channels).num_groups for channels in (16, 32, 64)} == {MAX_GROUPS}


def test_group_norm_does_not_depend_on_the_batch():
    model = build_model("resnet8", num_classes=5, norm="group").train()
    images = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(model(images)[:1], model(images[:1]))


def test_sync_batch_alone_is_batch_norm():
    images = torch.randn(4, 6, 5, 5)
    sync, batch = make_norm("sync_batch", 6), nn.BatchNorm2d(6)
    assert torch.equal(sync(images), batch(images))
    assert torch.equal(sync.eval()(images), batch.eval()(images))
    assert sync.state_dict().keys() == batch.state_dict().keys()


def train_step(model, images, weights):
    """Logits, gradients and running statistics after one forward and backward pass."""
    logits = model(images)
    (logits * weights).sum().backward()
    return {
        "logits": logits.detach(),
        "gradients": [parameter.grad for parameter in model.parameters()],
        "statistics": list(model.buffers()),
    }


def example():
    torch.manual_seed(0)
    model = build_model("resnet8", num_classes=5, width=0.25, norm="sync_batch").double()
    batch = sum(SPLIT)
    return model, torch.randn(batch, 3, 8, 8).double(), torch.randn(batch, 5).double()


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(SPLIT))
    model, images, weights = example()
    step = train_step(model, images.split(SPLIT)[rank], weights.split(SPLIT)[rank])
    torch.save(step, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_sync_batch_over_workers_is_batch_norm_over_the_global_batch(tmp_path):
    multiprocessing.spawn(work, (tmp_path,), nprocs=len(SPLIT))
    workers = [torch.load(tmp_path / f"{rank}.pt") for rank in range(len(SPLIT))]
    whole = train_step(*example())
    torch.testing.assert_close(torch.cat([worker["logits"] for worker in workers]), whole["logits"])
    for *of_workers, of_whole in zip(*(w["gradients"] for w in workers), whole["gradients"], strict=True):
        torch.testing.assert_close(sum(of_workers), of_whole)
    for worker in workers:
        torch.testing.assert_close(worker["statistics"], whole["statistics"])
