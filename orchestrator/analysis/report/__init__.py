"""An experiment on one page: its question, answer, charts, cost and environment, as HTML or Markdown."""
