"""The accounting line: paid + held + failed + in flight = planned, to the last unit."""

from dataclasses import dataclass

from domain.errors import InvariantBroken
from models.database import fetch

_SUMS = """
SELECT r.plan_hash IS NOT NULL, coalesce(r.leg_count, 0), coalesce(r.total_units, 0),
       coalesce(jsonb_object_agg(l.state, jsonb_build_array(l.legs, l.units::text))
                FILTER (WHERE l.state IS NOT NULL), '{}')
FROM payout_run r
LEFT JOIN LATERAL (
    SELECT state, count(*) AS legs, sum(units) AS units FROM payout_leg
    WHERE run_id = r.id GROUP BY state
) l ON true
WHERE r.id = %s GROUP BY r.id
"""


@dataclass(frozen=True)
class Share:
    """Some of a run's legs, and their sum."""

    legs: int = 0
    units: int = 0

    def __add__(self, other: "Share") -> "Share":
        return Share(self.legs + other.legs, self.units + other.units)


@dataclass(frozen=True)
class Accounting:
    """Where a run's money is. `in_flight` is all that is not at an end, waiting included."""

    planned: Share
    paid: Share
    held: Share
    failed: Share
    in_flight: Share
    by_state: dict[str, Share]

    def __str__(self) -> str:
        return (
            f"paid {self.paid.legs} + held {self.held.legs} + failed {self.failed.legs}"
            f" + in flight {self.in_flight.legs} = planned {self.planned.legs} legs; units"
            f" {self.paid.units} + {self.held.units} + {self.failed.units}"
            f" + {self.in_flight.units} = {self.planned.units}"
        )


def accounting(run_id: str) -> Accounting:
    """The line of a run; zeros while it is not planned.

    Raises:
        InvariantBroken: the legs do not add up to the plan.
    """
    [(is_planned, legs, units, sums)] = fetch(_SUMS, (run_id,))
    by_state = {state: Share(int(count), int(total)) for state, (count, total) in sums.items()}
    ends = {state: by_state.get(state, Share()) for state in ("paid", "held", "failed")}
    in_flight = sum((s for name, s in by_state.items() if name not in ends), Share())
    line = Accounting(Share(int(legs), int(units)), **ends, in_flight=in_flight, by_state=by_state)
    if sum(by_state.values(), Share()) != line.planned:
        planned = "as planned" if is_planned else "though nothing is planned"
        raise InvariantBroken(f"run {run_id} does not add up {planned}: {line}")
    return line
