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
# # Mechanism: is the model smoother, and does it overfit less?
# The symmetric pair is said to flatten the loss around the embeddings. The probes measure it without noise, on examples
# that were held out of training.

# %%
import os

from analysis import custom, draw_figures, load_runs, table

# A folder of runs, a folder of offline W&B logs, or "entity/project" on W&B.
SOURCE = os.environ.get("RUNS", "runs")
runs = load_runs(SOURCE)

# %% [markdown]
# ## Smoothness
# Slope and curvature of the loss along random directions, and the largest eigenvalue of its Hessian: smaller is
# flatter.

# %%
table(runs, "probes")

# %%
table(runs, "probe_radii")

# %% [markdown]
# ### Is it flatter than without noise?
# Paired by seed, corrected over the table. Look at the detectable difference below the table before reading a p of 1.

# %%
CURVATURE = ["probe/curvature/rademacher/5", "probe/trace", "probe/top_eigenvalue"]
custom(runs, metrics=CURVATURE, differences=CURVATURE)

# %%
draw_figures(runs, "curvature")

# %% [markdown]
# ## Overfitting
# A regulariser raises the training loss and lowers the gap to held-out examples. A gap that shrinks while the held-out
# loss rises is no gain.

# %%
table(runs, "overfitting")

# %%
draw_figures(runs, "losses")

# %% [markdown]
# ## What it costs, and whether training stays stable

# %%
table(runs, "overhead")

# %%
custom(runs, metrics=["stability/*"])

# %% [markdown]
# ## Every probe that was recorded

# %%
custom(runs, metrics=["eval/loss", "probe/*"])
