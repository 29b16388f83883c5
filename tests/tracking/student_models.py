"""Students as a driver tells a tracker of them, with weights at random."""

from pathlib import Path

from orchestrator import names
from orchestrator.export.blueprint import KEY, Blueprint
from orchestrator.models import build_model
from orchestrator.store.students import digest_of
from orchestrator.tracking.base import StudentModel
from orchestrator.training import save_weights

IMAGE, CLASSES = (3, 8, 8), ("cat", "dog")


def student_model(folder: Path, key: str) -> StudentModel:
    """The student of a final run, such as "kd-final-0"; each call another one."""
    network = build_model("resnet8", num_classes=2, width=0.125)
    settings = {"name": "resnet8", "width": 0.125, "norm": "batch", "stem_stride": None, "small_images": False}
    blueprint = Blueprint(settings, "pets", CLASSES, IMAGE, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    path, variant = folder / f"{key}.safetensors", key.rpartition("-final")[0]
    save_weights(path, network, {KEY: blueprint.to_text()})
    return StudentModel(
        key=key,
        name=variant,
        weights=path,
        digest=digest_of(path),
        image=IMAGE,
        mean=blueprint.mean,
        classes=CLASSES,
        epochs=2,
        params={"student.model": "resnet8", "training.optimizer.lr": 0.1},
        tags={"orchestrator.variant": variant, "val/acc1": "52.0"},
        metrics=[names.VAL_ACC1],
        requirements=["torch"],
        summary=f"{key}: val/acc1 52.00",
        card=f"# {key}\n\nIt is {names.MODEL_ADDRESS}.\n",
    )
