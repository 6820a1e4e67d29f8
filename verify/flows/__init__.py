"""What is proven, one file a flow: the queue itself, payouts, and research nights."""

from verify.flows import maturity, queue, research, rivals

__all__ = ["maturity", "queue", "research", "rivals"]
