"""axolotl's own training from a YAML, with the plugin of the page and one that records."""

import os
import sys
from pathlib import Path

from axolotl.integrations.base import BasePlugin

from support.recorded import Record, See


class RecordPlugin(BasePlugin):
    def add_callbacks_pre_trainer(self, cfg, model):
        del model
        return [(See if cfg.neftune_noise_alpha else Record)(Path(os.environ["RECORD"]))]


if __name__ == "__main__":
    from axolotl.cli.args import TrainerCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.cli.train import do_train

    do_train(load_cfg(sys.argv[1]), TrainerCliArgs())
