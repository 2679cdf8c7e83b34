"""`python -m analysis COMMAND`: one file per command, with its arguments (`add_arguments`) and work (`run`)."""

# Name and one-line help. A command's file is imported only when the command is used.
COMMANDS = {
    "table": "a table of finished runs; the default NAME is ablation",
    "finding": "what the runs show about each noise, in a sentence",
    "compare": "two runs: settings that differ, results",
    "status": "how far a sweep is, and why runs have no result",
    "dashboard": "a saved workspace on W&B: panels by noise and alpha",
    "notebooks": "run the notebooks on a source, into .ipynb and .html",
    "figures": "the figures of finished runs, as SVG, PDF and PNG with captions",
    "report": "one self-contained HTML page: tables, figures, runs, answers",
}
