# %% [markdown]
# # Ablation: noise and alpha
# Every table here comes from finished runs; failed, diverged and unfinished ones are listed and never averaged in.

# %%
import os

from IPython.display import HTML, display

from analysis import load_runs
from analysis.build import build
from analysis.layouts import LAYOUTS
from analysis.render import render

# A folder of runs, a folder of offline W&B logs, or "entity/project" on W&B.
SOURCE = os.environ.get("RUNS", "runs")
runs = load_runs(SOURCE)

# %% [markdown]
# ## What was run, and what is left out

# %%
display(runs.runs)
display(runs.excluded)

# %% [markdown]
# ## The table

# %%
display(HTML(render(build(runs, LAYOUTS["ablation"]), "html")))

# %% [markdown]
# ## Noise types, raw and with equal variance

# %%
display(HTML(render(build(runs, LAYOUTS["noise_types"]), "html")))
