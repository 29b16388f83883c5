"""Trained students as files that others can use: what they need beside their weights, formats, checks, predictions."""
