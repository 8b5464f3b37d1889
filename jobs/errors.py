"""The errors that a job reports in a sentence, whichever side raised them."""

from ray_rerank.cluster.errors import ClusterError
from ray_rerank.operators.errors import UserError

EXPECTED = (UserError, ClusterError)
