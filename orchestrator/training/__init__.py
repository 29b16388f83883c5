"""One training run on any number of processes: loop, optimizers, evaluation, precision, checkpoints."""

from orchestrator.training.checkpoint import load_latest, load_weights, save_checkpoint, save_weights
from orchestrator.training.evaluate import Evaluation, NonFiniteLogitsError, evaluate, predict_logits
from orchestrator.training.loop import TrainingData, TrainingRun, TrainingSettings
from orchestrator.training.meter import Mistake
from orchestrator.training.precision import Precision, resolve_precision
from orchestrator.training.pretrained import fit_pretrained, load_pretrained
from orchestrator.training.stopping import Interrupted
from orchestrator.training.world import SINGLE, World

__all__ = [
    "SINGLE",
    "Evaluation",
    "Interrupted",
    "Mistake",
    "NonFiniteLogitsError",
    "Precision",
    "TrainingData",
    "TrainingRun",
    "TrainingSettings",
    "World",
    "evaluate",
    "fit_pretrained",
    "load_latest",
    "load_pretrained",
    "load_weights",
    "predict_logits",
    "resolve_precision",
    "save_checkpoint",
    "save_weights",
]
