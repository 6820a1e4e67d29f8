"""What a person does when a reorg took back what was final: docs/operations.md, typed.

halted → adopt until nothing is unmatched → resume → the same bytes are mined again
"""

from usecases.payouts.acceptance import accept_unburned
from usecases.payouts.adoption import adopt_wallet
from usecases.payouts.wallet_control import resume_wallet
from verify.flow import Act, Stage
from verify.rules import Query


def reorganise_deeply(stage: Stage) -> object:
    """Replace blocks down to any that moved our money; None when there is none to take back."""
    height = stage.chain.head().height
    [(lowest,)] = stage.query("SELECT min(height) FROM ledger WHERE canonical AND ref <> ''")
    if lowest is None:
        return None
    depth = height - stage.dice.randint(lowest, height) + 1
    stage.trace.fault("reorg deeper than finality", f"depth {depth}")
    return stage.chain.reorg(depth, stage.dice.choice((None, ())))


def deep_reorg_acts(query: Query) -> list[Act]:
    """Adopt and resume a halted wallet, and let paused payouts go on."""
    acts = []
    if query("SELECT 1 FROM wallet WHERE halted_at IS NOT NULL"):
        acts.append(Act("adopt", 1, lambda: adopt_wallet("ada")))
        acts.append(Act("resume wallet", 1, lambda: resume_wallet("ada")))
    if query("SELECT 1 FROM pause"):
        acts.append(Act("unpause", 1, lambda: query("DELETE FROM pause")))
    return acts


def accept_what_it_cost(query: Query) -> list[str]:
    """Two people accept who was paid and can't be burned any more; returns their addresses."""
    rows = query(
        "SELECT run_id::text, address FROM payout_leg WHERE state = 'paid' AND burn_hash IS NULL"
        " ORDER BY address"
    )
    for run_id, address in rows:
        accept_unburned(run_id, address, "ada")
        accept_unburned(run_id, address, "bob")
    return [address for _, address in rows]
