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
# # How much depends on alpha
# The papers choose alpha on the instructions that they report. Here it is chosen on one half of them and reported on
# the other (`chosen`), beside the papers' way (`best on test`).

# %%
import os

from analysis import custom, draw_figures, flatness, load_runs, table

# A folder of runs, a folder of offline W&B logs, or "entity/project" on W&B.
SOURCE = os.environ.get("RUNS", "runs")
runs = load_runs(SOURCE)

# %% [markdown]
# ## Win rate and length by alpha, and the chosen alpha

# %%
table(runs, "alpha_grid")

# %%
draw_figures(runs, "alpha_curves")

# %% [markdown]
# ## How flat it is
# A best alpha means little where many are as good. The last column names those that these runs do not show to be worse.

# %%
flatness(runs)

# %% [markdown]
# ## Eval loss by alpha
# A loss tells runs apart that a win rate cannot: compare where each begins to rise.

# %%
custom(runs, rows=["noise"], columns="alpha", metrics=["eval/loss"])

# %% [markdown]
# ## SymNoise over NEFTune, both with their own best alpha
# Read the row `chosen`: the row `best on test` is the maximum of several noisy numbers for both.

# %%
table(runs, "symnoise_gain")

# %% [markdown]
# ## Size of the noise
# The norm of one example's noise, and its ratio to the norm of the example's embeddings: two noises of the same alpha
# need not be of the same size, and where the ratio nears one the example is drowned.

# %%
custom(runs, metrics=["noise/norm", "noise/ratio", "eval/loss"])
