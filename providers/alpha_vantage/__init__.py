"""Alpha Vantage's shapes: what is asked, how its answers are read, and how they fail."""

from providers.alpha_vantage.client import AlphaVantage
from providers.alpha_vantage.transport import Endpoint, Transport

__all__ = ["AlphaVantage", "Endpoint", "Transport"]
