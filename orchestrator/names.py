"""Names of metrics, tags and artifacts, each written once."""

from __future__ import annotations

from typing import Final

TRAIN_LOSS: Final = "train/loss"
TRAIN_LOSS_CE: Final = "train/loss_ce"
TRAIN_LOSS_KD: Final = "train/loss_kd"
TRAIN_ACC1: Final = "train/acc1"
"""Top-1 accuracy on the augmented training batches, in percent."""
TRAIN_AGREEMENT: Final = "train/agreement"
"""Share of the epoch's training samples whose top class is the same for student and teacher, in percent."""
VAL_LOSS: Final = "val/loss"
VAL_ACC1: Final = "val/acc1"
VAL_ECE: Final = "val/ece"
"""Expected calibration error (Guo et al. 2017, equation 3; 15 bins of equal width), in percent."""
TEST_LOSS: Final = "test/loss"
TEST_ACC1: Final = "test/acc1"
TEST_ECE: Final = "test/ece"

TEMPERATURE_MEAN: Final = "temperature/mean"
TEMPERATURE_MIN: Final = "temperature/min"
TEMPERATURE_MAX: Final = "temperature/max"
TEMPERATURE_P10: Final = "temperature/p10"
TEMPERATURE_P50: Final = "temperature/p50"
TEMPERATURE_P90: Final = "temperature/p90"
TEMPERATURE_CLAMPED_LOW: Final = "temperature/clamped_low"
"""Share of the epoch's samples whose temperature was raised to the lower bound, 0 to 1."""
TEMPERATURE_CLAMPED_HIGH: Final = "temperature/clamped_high"

ADJUSTMENT_WRONG: Final = "adjustment/wrong"
"""Samples of the epoch whose teacher logits have their maximum off the label."""
ADJUSTMENT_ADJUSTED: Final = "adjustment/adjusted"
"""Samples of the epoch whose target the adjustment rule changed."""

LOGITS_MAX_ERROR: Final = "teacher_logits/max_error"
"""Largest difference between one of the epoch's teacher logits as it was stored and as the teacher gave it."""
LOGITS_MEAN_ERROR: Final = "teacher_logits/mean_error"

LEARNING_RATE: Final = "optimizer/lr"
THROUGHPUT: Final = "throughput/samples_per_s"
EPOCH_TIME: Final = "time/epoch_s"

PRECISION: Final = "precision"
"""Parameter: the arithmetic that a trial computed in."""
PRECISION_REASON: Final = "precision.reason"

VALUE: Final = "params"
"""How the metric of a searched value begins where values change in mid-training."""

SYSTEM: Final = "system"
"""How the metrics of the driver's machine begin."""

VALUES_BY_EPOCH: Final = "values.json"
"""Artifact: the values that a trial's epochs had, where they changed."""

REPORT: Final = "report.html"
"""Artifact: the experiment's report, with its charts, on one page that needs nothing else."""

MODEL_ADDRESS: Final = "MODEL-ADDRESS"
"""Stands in a student's card for where the tracking store has it, which is known when it is there."""

PARENT_RUN_TAG: Final = "mlflow.parentRunId"
TAG_PREFIX: Final = "orchestrator."

METRICS: Final = frozenset(
    value for name, value in list(globals().items()) if name.isupper() and isinstance(value, str) and "/" in value
)
"""Every metric's name."""


def loss_metric(name: str) -> str:
    """The metric of a feature loss, by its method, or of a term of the distillation loss; of a plugin's too."""
    return f"{TRAIN_LOSS}_{name}"


def value_metric(path: str) -> str:
    """The metric of the searched value at a dotted path."""
    return f"{VALUE}/{path}"


def is_metric(name: str) -> bool:
    """Whether a result is to be recorded: one of `METRICS`, a term of a loss, or a searched value."""
    return name in METRICS or name.startswith((f"{TRAIN_LOSS}_", f"{VALUE}/"))
