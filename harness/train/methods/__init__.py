"""What is done with a micro-batch: plain or noised training, or one of the smoothness regularisers it is compared with.

base          the interface            noised   none, one-sided noise, pairs: the default
divergence    Kullback-Leibler terms   r3f rdrop freelb vat smart sam   one paper each
perturbation  norms and balls, document by document

docs/regularisers.md has the equations side by side.
"""

from harness.train.methods.base import Method, Piece
from harness.train.methods.choice import method_of

__all__ = ["Method", "Piece", "method_of"]
