"""vLLM in its own process: REQUESTS.json in, ANSWERS.json out. It imports only the standard library and vllm.

So vLLM can have its own environment (generate.python), and its GPU memory is free when it ends.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from pathlib import Path
from typing import Any


def main(requests: Path, answers: Path) -> None:
    """Answer what `harness.generate.vllm` has written to `requests`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: vLLM does not keep a GPU when the run is killed
    # Started by path, this file's folder is first on sys.path, where our vllm.py would shadow the package.
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent.resolve()]
    import vllm

    asked = json.loads(requests.read_text(encoding="utf-8"))
    engine: Any = vllm.LLM(**asked["engine"])
    outputs = engine.generate(
        [{"prompt_token_ids": prompt} for prompt in asked["prompts"]],
        [vllm.SamplingParams(**each) for each in asked["sampling"]],
        use_tqdm=False,
    )
    found = [
        {"token_ids": list(each.outputs[0].token_ids), "finish_reason": each.outputs[0].finish_reason}
        for each in outputs
    ]
    answers.write_text(json.dumps({"version": vllm.__version__, "answers": found}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
