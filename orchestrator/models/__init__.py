"""Networks by name: `build_model("resnet20", num_classes=100)`."""

from orchestrator.models.factory import LARGE, build_model, flop_count, parameter_count

__all__ = ["LARGE", "build_model", "flop_count", "parameter_count"]
