"""The science of distillation: temperatures, adjustment of targets, losses and the criterion that joins them.

Symbols in docstrings: v is `logits_student` [B, C], t is `logits_teacher` [B, C], y is `target` [B] with
integer class labels, tau is the temperature [B], dimensionless and > 0; B samples, C classes. All of it
computes in float32, or in float64 where the logits are float64, whatever the autocast setting.

"The paper" is Wen, Lai, Qian, "Preparing lessons: Improve knowledge distillation with better supervision",
Neurocomputing 454, 2021, pp. 25-33 (arXiv 1911.07471).
"""
