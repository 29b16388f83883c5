"""What one step differentiates: the student, its peers, and the feature losses with their connectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from orchestrator.distillation.batch import Batch
from orchestrator.distillation.features import FeatureTerm
from orchestrator.models.norm import SyncBatchNorm
from orchestrator.models.taps import Tap


class Learner(nn.Module):
    """The student, its peers and its feature losses as one module, so that data parallelism averages all gradients.

    Without peers and features it does no more than the student.
    """

    def __init__(
        self, student: nn.Module, features: Sequence[FeatureTerm] = (), peers: Sequence[nn.Module] = ()
    ) -> None:
        super().__init__()
        self.student = student
        self.peers = nn.ModuleList(peers)
        self.features = nn.ModuleDict({term.method: term.loss for term in features})
        self._terms = tuple(features)
        self._tap = Tap(student, [layer for term in features for layer in term.layers])

    def forward(
        self, inputs: Tensor, teacher_features: dict[str, Tensor], batch: Batch
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Logits [B, C] of images [B, C', H, W], and by method the unweighted feature losses of the global batch.

        The student's logits come first, then those of its peers.

        `teacher_features` are the frozen teacher's for the same images, by layer. Logits and losses carry
        gradient; see `Workers` for what each process holds of a loss.
        """
        logits, features = self._tap(inputs)
        losses = {
            term.method: term.loss(
                [features[layer] for layer in term.layers],
                [teacher_features[layer] for layer in term.teacher_layers],
                batch,
            )
            for term in self._terms
        }
        return [logits, *(peer(inputs) for peer in self.peers)], losses


@contextmanager
def idle_norms(network: nn.Module) -> Iterator[None]:
    """Let a network in training take a batch of no images, whose statistics its batch norms could not compute.

    Those that sum over all processes stay as they are: they wait for each other.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    idle = [norm for norm in norms if not isinstance(norm, (SyncBatchNorm, nn.SyncBatchNorm))]
    for norm in idle:
        norm.eval()
    try:
        yield
    finally:
        for norm in idle:
            norm.train()
