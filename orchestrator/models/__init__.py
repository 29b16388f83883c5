"""Networks by name: `build_model("resnet20", num_classes=100)`."""

from orchestrator.models.factory import build_model, flop_count, parameter_count

__all__ = ["build_model", "flop_count", "parameter_count"]
