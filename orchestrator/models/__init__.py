"""Networks by name: `build_model("resnet20", num_classes=100)`."""

from orchestrator.models.factory import build_model, parameter_count

__all__ = ["build_model", "parameter_count"]
