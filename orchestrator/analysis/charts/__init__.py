"""Charts of an experiment: each a function from plain data to a `Chart`, whose `figure` is plotly's.

They go into the report, MLflow and notebooks alike. A variant has one colour, symbol and line in all of them.
"""
