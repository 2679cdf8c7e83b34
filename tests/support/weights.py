"""Bitwise comparison of models."""

import hashlib

import torch
from transformers import PreTrainedModel


def weights_hash(model: PreTrainedModel) -> str:
    """SHA-256 over all parameters and buffers, by name (hex): equal hashes, bitwise equal models."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
