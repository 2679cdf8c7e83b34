"""How loss and predictions change when embeddings are perturbed."""
