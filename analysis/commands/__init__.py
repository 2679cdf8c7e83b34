"""`python -m analysis COMMAND`: a file each: its arguments (`add_arguments`), what it does (`run`)."""

# Name and one line for each. A command's file is imported only when it is asked for.
COMMANDS = {
    "table": "a table of finished runs; the default NAME is ablation",
    "finding": "what the runs show of each noise, a sentence each",
    "compare": "two runs: settings that differ, results",
    "status": "how far a sweep is, and why runs have no result",
    "dashboard": "a saved workspace on W&B: panels by noise and alpha",
    "notebooks": "run the notebooks on a source, into .ipynb and .html",
    "figures": "the figures of finished runs, as SVG, PDF and PNG with captions",
    "report": "one self-contained HTML page: tables, figures, runs, answers",
}
