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
# # Length: is a higher win rate a longer answer?
# On the AlpacaEval leaderboard alpaca-7b goes from 26.5% to 61.6% with NEFTune, and from 26.3% to 31.6% once length is
# controlled for: most of the gain is length. Raw win rate, length-controlled win rate and mean length stand together.

# %%
import os

from analysis import custom, draw_figures, length_gain, load_runs, table

# A folder of runs, a folder of offline W&B logs, or "entity/project" on W&B.
SOURCE = os.environ.get("RUNS", "runs")
runs = load_runs(SOURCE)

# %% [markdown]
# ## Win rate, length-controlled win rate, length

# %%
table(runs, "alpha_grid")

# %%
draw_figures(runs, "win_rate_by_length", "length_histograms")

# %% [markdown]
# ## Win rate among answers of the same length
# A noise that helps beyond length wins more often within a column; one that only writes longer moves answers to the
# columns of the longer ones.

# %%
table(runs, "length_bias")

# %% [markdown]
# ## How much of the gain is length
# The difference in win rate taken apart: what longer or shorter answers alone would have changed, and what changed
# among answers of like length. A gain that is all "by length" is bought with words.

# %%
length_gain(runs)

# %% [markdown]
# ## How the answers end, and how they repeat

# %%
custom(runs, metrics=["generate/characters", "generate/stopped_percent", "generate/empty_percent"])

# %%
table(runs, "symnoise_table4")
