"""Which settings do not decide a result. Analysis reads it without the schema, which takes a while to import."""

from __future__ import annotations

from harness.noise.definition import LAYOUT_OF_LENGTH as LAYOUT_OF_LENGTH  # analysis reads it here

# Where the run is computed; sums differ in their last digits.
_PLACES = {"devices", "nodes", "sharding", "cpu_offload"}
# Keys that change how a result is obtained or stored, but not the result.
NO_RESULT = {
    "train": {
        *("name", "log_every", "heldout_every", "checkpoint_every", "keep_checkpoints", "keep_model"),
        *("checkpoint_async", "row_multiple", "compile", "liger"),
        *_PLACES,
    },
    "model": {"shape"},
    "generate": {"name", "cache_gib", "cuda_graph", "devices", "tensor_parallel", "python"},
    "probe": {"name", "max_tokens", "every"},
    "judge": {
        *("name", "store", "concurrency", "retries", "timeout_s", "unparsed_retries", "api_key_env", "python"),
        *("max_calls", "max_usd", "usd_per_million_input", "usd_per_million_output", "max_unparsed"),
    },
}
