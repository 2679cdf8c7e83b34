# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Ablation: noise and alpha
# Every table here comes from finished runs; failed, diverged and unfinished ones are listed and never averaged in.
# What the intervals and p-values mean: docs/analysis.md.

# %%
import os

import pandas as pd
from IPython.display import display

from analysis import draw_figures, load_runs, table

# A folder of runs, a folder of offline W&B logs, or "entity/project" on W&B.
SOURCE = os.environ.get("RUNS", "runs")
runs = load_runs(SOURCE)

# %% [markdown]
# ## What was run, and what is left out

# %%
pd.set_option("display.max_colwidth", None)
display(runs.runs[["run_id", "model", "dataset", "noise", "alpha", "seed", "judge"]])
display(runs.excluded[["run_id", "status", "reason"]])

# %% [markdown]
# ## The table
# Differences are paired: the same seed, and for win rates the same instruction.

# %%
table(runs, "ablation")

# %%
draw_figures(runs, "forest")

# %% [markdown]
# ## Absolute and relative
# Points and percent of the baseline's win rate are different numbers. `detectable` is the smallest true difference that
# such an experiment finds in four of five repetitions: a smaller one may well exist where nothing was found.

# %%
table(runs, "differences")

# %% [markdown]
# ## Noise types, raw and with equal variance

# %%
table(runs, "noise_types")

# %% [markdown]
# ## The same compute without the symmetry
# Two independent draws per example cost what the symmetric pair costs.

# %%
table(runs, "compute_matched")
