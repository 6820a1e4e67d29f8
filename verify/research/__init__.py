"""Research data in the simulation: companies that change, providers that fail, and what must hold.

world (the truth, by the clock) → script (what a call gets) → the program → rules
"""
