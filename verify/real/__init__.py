"""The real lane: real processes and servers, killed, frozen, cut off and flooded; nobody unpaid.

run_real_lane(options, on_progress) → RealReport; also `python -m verify.real`
"""

from verify.real.lane import run_real_lane
from verify.real.options import RealOptions
from verify.real.report import RealReport

__all__ = ["RealOptions", "RealReport", "run_real_lane"]
