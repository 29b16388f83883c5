"""Tracking: runs, their parameters, metrics and outcome, in MLflow or in memory."""
