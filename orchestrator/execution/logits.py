"""A run's targets, read from the store of teachers' logits that all trials share."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from orchestrator import names
from orchestrator.data import Images
from orchestrator.data.logit_store import Elsewhere, LogitStore, Shard
from orchestrator.data.views import View
from orchestrator.search.logits import Keeping
from orchestrator.training import TrainingRun
from orchestrator.training.view_logits import view_logits


class StoredLogits:
    """Gives a `TrainingRun` its targets; the teacher is loaded when a view is missing, and not before.

    Every process of a trial has its own and reads for itself: they talk to no one but the files.

    Args:
        folder: of all stores.
        key: what the logits depend on but the view and the run's arithmetic.
        keeping: how they are kept.
        strict: whether logits beyond the range of that dtype are an error; else their view is kept in float32.
        teacher: gives the network, on the run's device.
        elsewhere: as `LogitStore` has it.
    """

    def __init__(
        self,
        folder: Path,
        key: Mapping[str, Any],
        keeping: Keeping,
        teacher: Callable[[], nn.Module],
        *,
        strict: bool = False,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._folder = folder
        self._key = key
        self._keeping = keeping
        self._teacher = teacher
        self._strict = strict
        self._elsewhere = elsewhere
        self._latest: tuple[View, Tensor, Shard] | None = None

    def serve(self, run: TrainingRun) -> None:
        """Take the run that will ask; it needs its targets before it is made."""
        # The run has this one; each would keep the other, and all images and logits, until garbage is collected.
        self._run: TrainingRun = weakref.proxy(run)
        key = {**self._key, "precision": f"{run.settings.precision} on {run.world.device.type}"}
        keeping = self._keeping
        self._store = LogitStore(
            self._folder,
            key,
            dtype=keeping.dtype,
            limit=min(keeping.limit, keeping.room),
            strict=self._strict,
            elsewhere=self._elsewhere,
        )

    def __call__(self, view: View) -> Tensor:
        """Logits [N, C] of a view, on the run's device."""
        if self._latest is None or self._latest[0] != view:
            shard = self._store.get(view, self._make, self._ahead(view))
            self._latest = (view, shard.logits.to(self._run.world.device), shard)
        return self._latest[1]

    def metrics(self) -> dict[str, float]:
        """How far the stored logits of the latest view are from those that the teacher gave."""
        if self._latest is None:
            return {}
        shard = self._latest[2]
        return {names.LOGITS_MAX_ERROR: shard.max_error, names.LOGITS_MEAN_ERROR: shard.mean_error}

    def _make(self, view: View) -> Tensor:
        run = self._run
        return view_logits(self._teacher(), run.data, view, precision=run.settings.precision, device=run.world.device)

    def _ahead(self, view: View) -> Iterator[View]:
        """The views of later epochs, each once."""
        views = (self._run.views.of(epoch) for epoch in range(self._run.epoch + 1, self._run.settings.epochs))
        return (other for other in dict.fromkeys(views) if other != view)


def images_digest(images: Images) -> str:
    """A hash of the pixels and their order."""
    pixels = images.images.cpu().contiguous()
    return hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.numpy().data).hexdigest()
