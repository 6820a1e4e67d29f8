"""The proof: seeded schedules in which everything goes wrong, and a look at the money afterwards.

    seed → dice → world (database, chain, broker, clock) → schedule → calm → invariants → report

It runs the production code; what is simulated is when things happen, and what is lost on the way.
"""
