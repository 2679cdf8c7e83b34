"""One self-contained HTML page of a study: what was run, tables, figures, every run, answers side by side."""

from analysis.report.page import write_report

__all__ = ["write_report"]
