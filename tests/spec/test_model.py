"""`student` and `teacher`: which networks a spec can name, and which of their settings go together."""

import pytest
from pydantic import ValidationError

from orchestrator.spec.model import StudentSpec, TeacherSpec

TORCHVISION = {"model": "torchvision/resnet18"}


@pytest.mark.parametrize(
    "name", ["resnet8x4", "resnet50", "wrn_40_2", "vgg13", "mobilenet_v2", "shufflenet_v1", "torchvision/resnet18"]
)
def test_networks_are_known_by_name(name):
    assert StudentSpec(model=name).model == name


@pytest.mark.parametrize("name", ["wrn_41_2", "vgg12", "torchvision/", "torchvisionresnet18", "shufflenet"])
def test_other_names_are_refused_with_what_there_is(name):
    with pytest.raises(
        ValidationError, match=r"is not a known model; .*known: .*vgg13.*torchvision/<name>, wrn_<6n\+4>_<k>"
    ):
        StudentSpec(model=name)


def test_the_nearest_name_is_told():
    with pytest.raises(ValidationError, match="did you mean 'mobilenet_v2'"):
        StudentSpec(model="mobilenetv2")


@pytest.mark.parametrize(
    ("section", "field", "rule"),
    [
        ({**TORCHVISION, "width": 0.5}, "width", "must be 1 for a torchvision model"),
        ({**TORCHVISION, "stem_stride": 1}, "stem_stride", "is not for torchvision models; small_images is"),
        ({"model": "resnet8", "small_images": True}, "small_images", "is for torchvision/<name> models"),
        ({"model": "resnet8", "key_mapping": "repdistiller"}, "key_mapping", "has no effect without"),
        ({"model": "resnet8", "checkpoint": "torchvision:DEFAULT"}, "checkpoint", "is for torchvision/<name> models"),
        ({"model": "resnet8", "checkpoint": "s3://me:secret@b/t.pt"}, "checkpoint", "a URI holds no credentials"),
        ({**TORCHVISION, "download": True}, "download", "is for checkpoints that torchvision names"),
        ({**TORCHVISION, "checkpoint": "a.pt", "download": True}, "download", "is for checkpoints that torchvision"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(section, field, rule):
    with pytest.raises(ValidationError, match=rule) as caught:
        TeacherSpec(**section)
    assert caught.value.errors()[0]["ctx"]["field"] == field


@pytest.mark.parametrize(
    "section",
    [
        {**TORCHVISION, "small_images": True, "norm": "group"},
        {**TORCHVISION, "checkpoint": "torchvision:IMAGENET1K_V1", "download": True},
        {"model": "resnet56", "checkpoint": "resnet56.pth", "key_mapping": "repdistiller"},
        {"model": "resnet56", "checkpoint": "models:/teacher@best"},
        {"model": "resnet56", "checkpoint": "s3://bucket/teacher.safetensors"},
        {"model": "mobilenet_v2", "stem_stride": 1},
    ],
)
def test_settings_that_go_together_are_taken(section):
    assert TeacherSpec(**section).model_dump(exclude_unset=True) == section
