"""The composition root of research data: settings in, providers out.

production → real clients, or a refusal that names what is missing
else       → mock ports over a golden copy
"""

from domain.budgets import Budget
from domain.errors import InvalidInput
from providers.ports import MarketPorts
from settings import Settings

#: What the real providers allow at least; PROVIDER_BUDGETS says more.
REAL_BUDGETS = {
    "alpha-vantage": Budget(per_second=1, per_day=25, zone="America/New_York"),
    "sec": Budget(per_second=8),
}


def build_market_ports(settings: Settings) -> MarketPorts:
    """Market data, documents and rates of this process.

    Raises InvalidInput in production without real providers, and for a golden copy or faults that
    cannot be read.
    """
    if settings.environment == "production":
        return _real_ports(settings)
    from mocks.market import mock_market_ports  # gated: never loaded in production

    return mock_market_ports(
        settings.mock_data_path,
        delay_ms=settings.mock_api_delay_ms,
        faults=settings.mock_faults,
        budgets=settings.budgets,
    )


def _real_ports(settings: Settings) -> MarketPorts:
    key, contact = settings.alpha_vantage_key, settings.contact
    if key is None or contact is None:
        wanted = {"ALPHA_VANTAGE_KEY": key, "CONTACT": contact}
        missing = " and ".join(name for name, value in wanted.items() if value is None)
        raise InvalidInput(
            f"ENVIRONMENT=production: no real provider of research data is configured ({missing}"
            " not set), and the mocks never run in production; see docs/providers.md, or use"
            " ENVIRONMENT=development or test"
        )
    from providers import ecb_client, http_documents
    from providers.alpha_vantage import AlphaVantage
    from providers.alpha_vantage import http as alpha_vantage
    from providers.http import HttpFetcher

    market = HttpFetcher(contact, alpha_vantage.HOSTS)
    return MarketPorts(
        market=(AlphaVantage(alpha_vantage.HttpTransport(market, key.get_secret_value())),),
        documents=(http_documents.SecDocuments(HttpFetcher(contact, http_documents.SEC_HOSTS)),),
        fx=(ecb_client.EcbRates(HttpFetcher(contact, ecb_client.HOSTS)),),
        budgets=REAL_BUDGETS | settings.budgets,
    )
