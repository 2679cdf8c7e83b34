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

from analysis import custom, figures, load_runs, table

# A folder of runs, a folder of offline W&B logs, or "entity/project" on W&B.
SOURCE = os.environ.get("RUNS", "runs")
runs = load_runs(SOURCE)

# %% [markdown]
# ## Smoothness

# %%
table(runs, "probes")

# %%
table(runs, "probe_radii")

# %%
figures(runs, "curvature")

# %% [markdown]
# ## Overfitting

# %%
table(runs, "overfitting")

# %%
figures(runs, "losses")

# %% [markdown]
# ## What it costs, and whether training stays stable

# %%
table(runs, "overhead")

# %%
custom(runs, metrics=["stability/*"])

# %% [markdown]
# ## Every probe that was recorded

# %%
custom(runs, metrics=["heldout/loss", "probe/*"])
