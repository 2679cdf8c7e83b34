"""`python -m analysis COMMAND`: one file per command, with its arguments (`add_arguments`) and work (`run`)."""

# Name and one-line help. A command's file is imported only when the command is used.
COMMANDS = {
    "table": "print a table of finished runs (default: ablation)",
    "finding": "summarise what the runs show about each noise, in one sentence",
    "compare": "compare two runs: settings that differ, and results",
    "status": "show the progress of a sweep, and why runs failed",
    "dashboard": "save a W&B workspace with panels by noise and alpha",
    "notebooks": "execute the notebooks on runs, into .ipynb and .html",
    "figures": "draw figures of finished runs, as SVG, PDF and PNG with captions",
    "report": "write one HTML page with tables, figures, runs and answers",
}
