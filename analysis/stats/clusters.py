"""Instructions that come in clusters: task families, sources, prompts.

Legend of shape suffixes: S seeds, I instructions, G clusters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[Any]


def by_cluster(values_SI: Array, clusters_I: Labels) -> tuple[Array, float]:
    """One value per seed and cluster (S, G), to be treated as independent items, and their degrees of freedom.

    A cluster counts with the weight of its instructions: its value is mean + G / I * (sum of its deviations from the
    mean), which for clusters of one size is the cluster's mean. Deviations are enlarged by (1 - 1/G) / (1 - n_g / I),
    the delete-one-cluster jackknife (CV3 in MacKinnon, Nielsen and Webb 2023, J. Appl. Econometrics 38:671), because a
    large cluster pulls the mean towards itself. The degrees of freedom are the effective number of clusters,
    1 / sum (n_g / I)^2 (Carter, Schnepel and Steigerwald 2017), minus one.
    """
    _, of_I = np.unique(clusters_I, return_inverse=True)
    sizes_G = np.bincount(of_I)
    shares_G = sizes_G / len(clusters_I)
    count, mean = len(sizes_G), values_SI.mean()
    sums_SG = np.array([np.bincount(of_I, weights=values_I - mean) for values_I in values_SI])
    enlarged_G = (1 - 1 / count) / (1 - shares_G)
    values_SG: Array = mean + count / len(clusters_I) * sums_SG * enlarged_G
    return values_SG, float(1 / (shares_G**2).sum() - 1)
