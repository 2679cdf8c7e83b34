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
# # Reproducing the papers: a checklist
# Every number and claim of the papers that is known to this project, and what these runs have to hold against it. The
# papers judge with GPT-4 or ChatGPT and train models of 7 to 70 billion parameters; read our numbers with that in mind.

# %%
import os

from analysis import checklist, claims, draw_figures, load_runs, table

# A folder of runs, a folder of offline W&B logs, or "entity/project" on W&B.
SOURCE = os.environ.get("RUNS", "runs")
runs = load_runs(SOURCE)

# %%
checklist(runs)

# %% [markdown]
# ## What the papers claim, and what these runs say to it
# A claim that is `not shown` is not refuted: see what would have been found. One that is `not run` needs runs of both
# noises at one alpha from 5 to 15 with the same seeds.

# %%
claims(runs)

# %% [markdown]
# ## SymNoise

# %%
table(runs, "symnoise_table1")

# %%
table(runs, "symnoise_table2")

# %%
table(runs, "symnoise_table3")

# %%
table(runs, "symnoise_table4")

# %% [markdown]
# The improvement of "6.7%" in the abstract is relative; the table has points and percent.

# %%
table(runs, "symnoise_gain")

# %% [markdown]
# Figure 1, and where the instructions come from:

# %%
table(runs, "symnoise_fig1")

# %%
draw_figures(runs, "categories")

# %% [markdown]
# ## NEFTune

# %%
table(runs, "neftune_table2")

# %%
table(runs, "neftune_table4")

# %%
table(runs, "neftune_table6")

# %%
table(runs, "neftune_table11")

# %%
table(runs, "neftune_table12")

# %%
table(runs, "qlora")

# %%
table(runs, "epochs")

# %%
table(runs, "open_llm")

# %% [markdown]
# ## The AlpacaEval leaderboard

# %%
table(runs, "leaderboard")
