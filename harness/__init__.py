"""The harness for noise in instruction fine-tuning: NEFTune, SymNoise and their controls."""
