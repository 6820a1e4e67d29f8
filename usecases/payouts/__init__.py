"""Payouts: plan, trigger, reserve, burn, pay, settle, account for, reconcile.

    planning → trigger → liquidity → pages → operations → settlement → sweep → record
    preview, views, accounting, reconcile: what people ask

The states and the reasons are explained in docs/payouts.md.
"""
