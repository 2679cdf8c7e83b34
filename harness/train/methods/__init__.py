"""What is done with a micro-batch: plain or noised training, or a smoothness regulariser for comparison.

base          the interface            noise   none, one-sided noise, pairs: the default
divergence    Kullback-Leibler terms   r3f rdrop freelb vat smart sam   one paper each, in the file of its name
perturbation  norms and balls, document by document

docs/regularisers.md has the equations side by side.
"""

from harness.train.methods.base import Method, MicroBatch, method_of

__all__ = ["Method", "MicroBatch", "method_of"]
