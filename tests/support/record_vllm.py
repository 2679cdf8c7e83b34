"""The arguments that an installed vLLM takes, as JSON: PYTHON record_vllm.py > tests/generate/vllm_signatures.json"""

from __future__ import annotations

import dataclasses
import inspect
import json


def main() -> None:
    import vllm
    from vllm.engine.arg_utils import EngineArgs

    explicit = [name for name in inspect.signature(vllm.LLM.__init__).parameters if name not in ("self", "kwargs")]
    engine = [field.name for field in dataclasses.fields(EngineArgs)]  # what LLM's **kwargs go to
    generate = list(inspect.signature(vllm.LLM.generate).parameters)
    sampling = [name for name in inspect.signature(vllm.SamplingParams).parameters if not name.startswith("_")]
    found = {"version": vllm.__version__, "LLM": sorted({*explicit, *engine}), "generate": generate}
    print(json.dumps({**found, "SamplingParams": sorted(sampling)}, indent=1))


if __name__ == "__main__":
    main()
