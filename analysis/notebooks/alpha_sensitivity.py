# %% [markdown]
# # How much depends on alpha
# The papers choose alpha on the instructions that they report. Here it is chosen on one half of them and reported on
# the other (`chosen`), beside the papers' way (`best on test`).

# %%
import os

from analysis import custom, figures, load_runs, table

# A folder of runs, a folder of offline W&B logs, or "entity/project" on W&B.
SOURCE = os.environ.get("RUNS", "runs")
runs = load_runs(SOURCE)

# %% [markdown]
# ## Win rate and length by alpha, and the chosen alpha

# %%
table(runs, "alpha_grid")

# %%
figures(runs, "alpha_curves")

# %% [markdown]
# ## Held-out loss by alpha

# %%
custom(runs, rows=["noise"], columns="alpha", metrics=["heldout/loss"])

# %% [markdown]
# ## SymNoise over NEFTune, both with their own best alpha

# %%
table(runs, "symnoise_gain")

# %% [markdown]
# ## Size of the noise
# The norm of one example's noise, and its ratio to the norm of the example's embeddings.

# %%
custom(runs, metrics=["noise/norm", "noise/ratio", "heldout/loss"])
