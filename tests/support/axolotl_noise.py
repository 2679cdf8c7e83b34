# ruff: noqa: ARG002 - axolotl fixes the signature
# snippet: axolotl
from axolotl.integrations.base import BasePlugin

from harness.noise import PRESETS, Noise
from harness.noise.callback import NoiseCallback


class NoisePlugin(BasePlugin):
    def add_callbacks_pre_trainer(self, cfg, model):
        return [NoiseCallback(Noise(**PRESETS["symnoise"], alpha=5.0), seed=0, verify=True)]


# end
