"""Measures what the papers only assert of a trained model: smoothness, overfitting, stability, generalisation.

stage        the stage `probe`: everything below on one run, into probes.json and the summary
smoothness   the smoothness probes together, one row for each document
surface      loss and logits of documents as functions of a perturbation of their embeddings
directions   the same random directions for every run
differences  first and second differences, divergence and flips along a direction
hessian      gradient norm, trace and top eigenvalue of the input Hessian
predictions  noise-free losses, calibration, entropy and exact continuation
memorisation answers to training prompts compared with the training answers
gradient_noise  even and odd part of the gradient under noise, next to its sampling noise
benchmarks   the lm-evaluation-harness (extra `eval`); tasks checks its settings
weights      distance of the weights from the start
examples     which examples are probed
summary      means and intervals of what was measured per example

docs/probes.md holds equations, units and limits.
"""
