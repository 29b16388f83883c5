"""`distillation`: the loss, its temperature and the repair of wrong teacher targets."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, model_validator

from orchestrator.catalog import ADJUSTMENTS, LOSSES, TEMPERATURES
from orchestrator.spec.base import PLUGIN, PluginSection, Section, broken_rule, known_in, told_by
from orchestrator.spec.features import FeatureSpec

_METHODS = ("constant", "flsw", "cwsm")
_RULES = ("none", "probability_shift", "label_smoothing")
_LOSSES = ("kd", "dkd", "dist")
LOGIT_FIELDS = ("temperature", "adjustment", "loss", "logit_standardization", "warmup_epochs")
"""Fields of `DistillationSpec` that act on the logit loss alone."""
IDLE = "acts on the logit loss alone, which kd_weight 0 leaves out; remove it, or raise kd_weight"


class ConstantTemperature(Section):
    """One temperature for every sample (Hinton et al. 2015)."""

    method: Literal["constant"] = "constant"
    base: float = Field(4.0, ge=1e-3, le=1e3, description="Temperature of every sample, dimensionless.")


class BoundedTemperature(Section):
    """What both forms of Dynamic Temperature Distillation share (Wen et al. 2021)."""

    base: float = Field(4.0, ge=1e-3, le=1e3, description="tau_0, the temperature of a sample of average confusion.")
    beta: float = Field(
        10.0, ge=0, le=1e6, description="Temperature units by which one unit of weight moves a sample from tau_0."
    )
    min: float = Field(1.0, ge=1e-3, le=1e3, description="Lower bound of a sample's temperature.")
    max: float = Field(12.0, ge=1e-3, le=1e3, description="Upper bound of a sample's temperature.")
    divide_by_mean: bool = Field(
        False,
        description="Divide the weights by their batch mean, so that beta means the same for all methods.",
    )

    @model_validator(mode="after")
    def _bounds_hold_base(self) -> Self:
        if self.min > self.base:
            raise broken_rule("min", f"must be <= base ({self.base})", self.min)
        if self.max < self.base:
            raise broken_rule("max", f"must be >= base ({self.base})", self.max)
        return self


class FLSWTemperature(BoundedTemperature):
    """Focal-loss-style weights: confusion is how far student and teacher disagree."""

    method: Literal["flsw"]
    gamma: float = Field(1.0, ge=0, le=16, description="Power of the disagreement; 0 gives standard KD.")
    normalize: Literal["l2", "softmax"] = Field(
        "l2",
        description="How logits are normalised before their product: to unit length, or to probabilities.",
    )


class CWSMTemperature(BoundedTemperature):
    """Confidence weighted by student max: confusion is a low top probability of the student."""

    method: Literal["cwsm"]
    beta: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="Temperature units by which one unit of weight moves a sample from tau_0; weights reach the number "
        "of classes, so that the usual values are smaller than flsw's.",
    )


class PluginTemperature(PluginSection):
    """A temperature method that an installed package adds."""

    method: Annotated[str, known_in(TEMPERATURES)] = Field(
        description="Name of a temperature method that an installed package adds.",
        json_schema_extra={"not": {"enum": [*_METHODS]}},
    )


class NoAdjustment(Section):
    """Teacher targets are used as they are."""

    rule: Literal["none"] = "none"


class ProbabilityShift(Section):
    """Where the teacher's top class is wrong, its value and the true class's are swapped."""

    rule: Literal["probability_shift"]


class LabelSmoothing(Section):
    """Where the teacher's top class is wrong, the target becomes the smoothed label."""

    rule: Literal["label_smoothing"]
    epsilon: float = Field(
        0.1, ge=0, le=1, description="Share of the probability that is spread evenly over all classes."
    )


class PluginAdjustment(PluginSection):
    """An adjustment rule that an installed package adds."""

    rule: Annotated[str, known_in(ADJUSTMENTS)] = Field(
        description="Name of an adjustment rule that an installed package adds.",
        json_schema_extra={"not": {"enum": [*_RULES]}},
    )


class KDLoss(Section):
    """Standard distillation: tau^2 * KL(teacher || student) (Hinton et al. 2015)."""

    method: Literal["kd"] = "kd"


class DKDLoss(Section):
    """Decoupled distillation: the label against the rest, and the rest among itself (Zhao et al. 2022)."""

    method: Literal["dkd"]
    alpha: float = Field(1.0, ge=0, description="Weight of the label's probability against the rest (TCKD).")
    beta: float = Field(8.0, ge=0, description="Weight of the probabilities of the other classes (NCKD).")

    @model_validator(mode="after")
    def _some_term(self) -> Self:
        if self.alpha == 0 and self.beta == 0:
            raise broken_rule("beta", "must be above 0 where alpha is 0: there would be no loss", self.beta)
        return self


class DISTLoss(Section):
    """Correlations of predictions, between classes and within them (Huang et al. 2022)."""

    method: Literal["dist"]
    beta: float = Field(1.0, ge=0, description="Weight of the correlation over the classes of a sample (inter).")
    gamma: float = Field(1.0, ge=0, description="Weight of the correlation over the samples of a class (intra).")

    @model_validator(mode="after")
    def _some_term(self) -> Self:
        if self.beta == 0 and self.gamma == 0:
            raise broken_rule("gamma", "must be above 0 where beta is 0: there would be no loss", self.gamma)
        return self


class PluginLoss(PluginSection):
    """A loss between logits that an installed package adds."""

    method: Annotated[str, known_in(LOSSES)] = Field(
        description="Name of a loss that an installed package adds.",
        json_schema_extra={"not": {"enum": [*_LOSSES]}},
    )


TemperatureSpec = Annotated[
    Annotated[ConstantTemperature, Tag("constant")]
    | Annotated[FLSWTemperature, Tag("flsw")]
    | Annotated[CWSMTemperature, Tag("cwsm")]
    | Annotated[PluginTemperature, Tag(PLUGIN)],
    told_by("method", "constant", _METHODS),
]
AdjustmentSpec = Annotated[
    Annotated[NoAdjustment, Tag("none")]
    | Annotated[ProbabilityShift, Tag("probability_shift")]
    | Annotated[LabelSmoothing, Tag("label_smoothing")]
    | Annotated[PluginAdjustment, Tag(PLUGIN)],
    told_by("rule", "none", _RULES),
]
LossSpec = Annotated[
    Annotated[KDLoss, Tag("kd")]
    | Annotated[DKDLoss, Tag("dkd")]
    | Annotated[DISTLoss, Tag("dist")]
    | Annotated[PluginLoss, Tag(PLUGIN)],
    told_by("method", "kd", _LOSSES),
]


class TeacherLogitsSpec(Section):
    """Whether the teacher is run in every step, or its logits are computed once and shared by all runs."""

    keep: Literal["auto", "stored", "live"] = Field(
        "auto",
        description="stored: computed once for each augmentation and kept on disk; live: computed in every step; auto: "
        "stored where several runs share them and resources.teacher_logits_gb suffices.",
    )
    dtype: Literal["float16", "float32"] = Field("float16", description="Of stored logits.")

    @model_validator(mode="after")
    def _stored_somewhere(self) -> Self:
        if self.keep == "live" and self.dtype != "float16":
            raise broken_rule(
                "dtype", "has no effect on logits that are not stored (keep: live); remove it", self.dtype
            )
        return self


class DistillationSpec(Section):
    """total = ce_weight * CE(student, label) + kd_weight * loss(student, teacher) + weighted feature losses."""

    ce_weight: float = Field(0.1, ge=0, description="Weight of the cross entropy with the labels.")
    kd_weight: float = Field(
        0.9,
        ge=0,
        description="Weight of the distillation loss; 0 without features trains the student alone, without a teacher.",
    )
    warmup_epochs: float = Field(
        0.0,
        ge=0,
        description="Epochs over which kd_weight rises from 0 to its value; dkd was published with 20.",
    )
    temperature: TemperatureSpec = Field(
        ConstantTemperature(), description="Temperature of the softened targets: constant, flsw or cwsm."
    )
    adjustment: AdjustmentSpec = Field(
        NoAdjustment(), description="Repair of wrong targets: none, probability_shift or label_smoothing."
    )
    loss: LossSpec = Field(KDLoss(), description="What student and softened targets are compared by: kd, dkd or dist.")
    logit_standardization: bool = Field(
        False,
        description="Whether the loss sees logits of mean 0 and variance 1 over the classes of a sample, on both sides "
        "(Sun et al. 2024). Temperature methods see the logits as they are.",
    )
    teacher_logits: TeacherLogitsSpec = Field(
        TeacherLogitsSpec(),
        description="Where the teacher's logits come from: a store that runs share, or the network.",
    )
    features: list[FeatureSpec] = Field([], description="Losses between features of student and teacher.")

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if self.ce_weight == 0 and self.kd_weight == 0:
            raise broken_rule("kd_weight", "must be above 0 where ce_weight is 0: there would be no loss", 0.0)
        return self

    @model_validator(mode="after")
    def _features_differ(self) -> Self:
        methods = [feature.method for feature in self.features]
        for number, method in enumerate(methods):
            if method in methods[:number]:
                rule = "is listed twice; give one entry all its layers"
                raise broken_rule(f"features.{number}.method", rule, method)
        return self

    @model_validator(mode="after")
    def _teacher_is_run_for_features(self) -> Self:
        if self.teacher_logits.keep == "stored" and self.features:
            rule = "features are not stored, so the teacher is run in every step; use auto, or remove the features"
            raise broken_rule("teacher_logits.keep", rule, "stored")
        return self

    @model_validator(mode="after")
    def _logit_part_is_there(self) -> Self:
        """A student alone may inherit a loss that it does not have; features ask for clear words."""
        for name, shown in (self.idle if self.features else {}).items():
            raise broken_rule(name, IDLE, shown)
        return self

    @property
    def idle(self) -> dict[str, Any]:
        """What is set of the logit loss where there is none: fields, and the value to show of each."""
        if self.kd_weight > 0:
            return {}
        usual = {name: DistillationSpec.model_fields[name].default for name in LOGIT_FIELDS}
        found = {name: getattr(self, name) for name in LOGIT_FIELDS}
        return {
            name: value if not isinstance(value, Section) else getattr(value, "rule", getattr(value, "method", None))
            for name, value in found.items()
            if value != usual[name]
        }

    @property
    def relating_samples(self) -> str:
        """The first built-in method that relates the samples of a batch to each other, by its field; "" without any."""
        if self.kd_weight > 0 and self.temperature.method in ("flsw", "cwsm"):
            return f"temperature.method {self.temperature.method}"
        if self.kd_weight > 0 and self.loss.method == "dist":
            return "loss.method dist"
        related = [feature.method for feature in self.features if feature.method in ("sp", "rkd", "pkt", "crd")]
        return f"the feature loss {related[0]}" if related else ""
