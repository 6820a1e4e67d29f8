"""Read the European Central Bank's reference rates (eurofxref-daily.xml, -hist.xml). Base EUR.

    XML → Cube time → Cube currency, rate → FxRate, newest day first

A document type is refused before anything is expanded, so entities cannot grow. Raises Malformed.
"""

from datetime import date
from xml.parsers import expat

from providers.fields import Malformed, required_day, required_number
from providers.market import FxRate

DAILY = "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-daily.xml"
RECENT = "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-hist-90d.xml"


class _Refused(Exception):
    """The document declares a type."""


def read_rates(body: bytes) -> list[FxRate]:
    """All rates of the document."""
    rates: dict[tuple[date, str], FxRate] = {}
    day: date | None = None

    def element(name: str, attributes: dict[str, str]) -> None:
        nonlocal day
        if name.rpartition(":")[2] != "Cube":
            return
        if "time" in attributes:
            day = required_day(attributes["time"], "Cube.time")
        if "currency" in attributes:
            quote = attributes["currency"]
            if day is None or not (len(quote) == 3 and quote.isalpha() and quote.isupper()):
                raise Malformed("Cube.currency", f"no day, or no currency: {quote[:20]!r}")
            rate = required_number(attributes.get("rate"), f"Cube.{day}.{quote}.rate")
            if rate <= 0:
                raise Malformed(f"Cube.{day}.{quote}.rate", f"expected more than 0, found {rate}")
            rates[day, quote] = FxRate("EUR", quote, day, rate)

    def refuse(*_: object) -> None:
        raise _Refused

    parser = expat.ParserCreate()
    parser.StartElementHandler = element
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise Malformed("body", f"not XML: {error}") from None
    except _Refused:
        raise Malformed("body", "a document type, which the ECB never sends") from None
    if not rates:
        raise Malformed("Cube", "no rates in the document")
    return [rates[key] for key in sorted(rates, key=lambda k: (-k[0].toordinal(), k[1]))]
