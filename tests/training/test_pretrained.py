"""Weights from published files: formats, nesting, names, and what does not fit."""

import argparse

import pytest
import torch
from torch import nn

from orchestrator.errors import CheckpointError
from orchestrator.models import build_model
from orchestrator.training import load_pretrained, save_weights


def network(seed, **settings):
    torch.manual_seed(seed)
    return build_model("resnet8", **{"num_classes": 4, "width": 0.25, **settings})


@pytest.fixture
def source():
    model = network(1)
    model(torch.randn(8, 3, 8, 8))
    return model


def same(one, other):
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def loaded(path, **settings):
    model = network(2)
    load_pretrained(path, model, **settings)
    return model


@pytest.mark.parametrize("key", [None, "model", "state_dict", "model_state_dict", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_torch_files_are_read_however_they_are_nested(tmp_path, source, key, prefix):
    state = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
    options = argparse.Namespace(lr=0.1, model="resnet8")
    torch.save(state if key is None else {"epoch": 240, "opt": options, key: state}, tmp_path / "teacher.pth")
    assert same(loaded(tmp_path / "teacher.pth"), source)


def test_the_suffix_does_not_matter(tmp_path, source):
    save_weights(tmp_path / "student_best", source, {})
    assert same(loaded(tmp_path / "student_best"), source)
    torch.save(source.state_dict(), tmp_path / "latest", _use_new_zipfile_serialization=False)
    assert same(loaded(tmp_path / "latest"), source)


def test_files_without_counts_of_batches_are_taken(tmp_path, source):
    state = {name: t for name, t in source.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pt")
    model = loaded(tmp_path / "old.pt")
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(model.eval()(images), source.eval()(images))


def refused(path, message, **settings):
    model, untouched = network(2), network(2)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_pretrained(path, model, **settings)
    assert same(model, untouched)
    return caught.value


class Code(nn.Module):
    pass


def test_a_pickled_model_is_refused_without_running_it(tmp_path):
    torch.save({"model": Code()}, tmp_path / "whole.pt")
    assert "state_dict" in refused(tmp_path / "whole.pt", "whole.pt is neither a safetensors file nor whole").hint


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}", b"PK\x03\x04broken", b"12345678{broken"])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "teacher.pt").write_bytes(content)
    refused(tmp_path / "teacher.pt", "teacher.pt")


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "none.pt", "none.pt cannot be read")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(3)], {"model": {"lr": 0.1}}, torch.zeros(2)])
def test_files_without_a_state_dict_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "holds no state dict")


def test_the_number_of_classes_is_compared_first(tmp_path):
    torch.save(network(1, num_classes=1000).state_dict(), tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "tells 1000 classes apart, the data set has 4$")


def test_names_and_shapes_that_do_not_fit_are_listed_briefly(tmp_path, source):
    torch.save(network(1, width=0.5).state_dict(), tmp_path / "wide.pt")
    refused(tmp_path / "wide.pt", r"stem.0.weight is \[8, 3, 3, 3\], the model's is \[4, 3, 3, 3\]; .* and \d+ more$")
    state = source.state_dict()
    state["extra"] = state.pop("stem.0.weight")
    torch.save(state, tmp_path / "names.pt")
    assert refused(tmp_path / "names.pt", "stem.0.weight is missing; extra is not in the model$").hint is None


def test_weights_that_are_not_finite_are_named(tmp_path, source):
    source.head.weight.data[0, 0] = float("nan")
    torch.save(source.state_dict(), tmp_path / "nan.pt")
    refused(tmp_path / "nan.pt", "head.weight holds NaN or infinite values$")


def test_foreign_names_hint_at_the_mapping(tmp_path, source):
    torch.save({f"x.{name}": tensor for name, tensor in source.state_dict().items()}, tmp_path / "x.pt")
    assert "teacher.key_mapping" in refused(tmp_path / "x.pt", "is missing").hint


def test_an_unknown_mapping_is_refused(tmp_path, source):
    torch.save(source.state_dict(), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="key_mapping must be one of repdistiller, got 'mine'"):
        load_pretrained(tmp_path / "x.pt", network(2), "mine")
