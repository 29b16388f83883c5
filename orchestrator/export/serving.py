"""What MLflow loads a logged student with: `mlflow.pyfunc.load_model` calls `_load_pyfunc`, which it names so."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from orchestrator.export.student import Student, load_student


class _Served:
    """A student that takes and gives arrays of numpy."""

    def __init__(self, student: Student) -> None:
        self._student = student

    def predict(self, images: Any, params: dict[str, Any] | None = None) -> Any:
        """Logits, float32 [B, classes], of images, float32 [B, C, H, W] of 0 to 1."""
        with torch.inference_mode():
            return self._student(torch.from_numpy(np.asarray(images, dtype=np.float32))).numpy()

    def get_raw_model(self) -> Student:
        """What `unwrap_python_model` and its like give."""
        return self._student


def _load_pyfunc(path: str) -> _Served:
    return _Served(load_student(path))
