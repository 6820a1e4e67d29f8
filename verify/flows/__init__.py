"""What is proven, one file a flow: the queue itself, and every kind of payout."""

from verify.flows import maturity, queue, rivals

__all__ = ["maturity", "queue", "rivals"]
