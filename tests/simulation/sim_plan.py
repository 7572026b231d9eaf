"""The plan of a simulated world, and the numbers that both tiers share."""

import sim_ops as op

from unisono.base.ids import RunId
from unisono.plan import Plan

RUN = RunId("r-0001")
LONG_POLL = 5.0
BEAT = 1.0  # between two looks at who is silent
IDLE, WAIT, GRACE = 8.0, 8.0, 3.0  # seconds of the plan
LATENCY = 0.05  # seconds that a message takes while time passes
CALM = 7.0  # virtual seconds from the end of all faults until everybody is connected again
PATIENCE = 1500.0  # virtual seconds from the end of all faults to the end of the run
SPIN = 3000  # messages at one moment
MOST = 40_000  # messages of a world: more, and its run does not end


def plan_of(setting: op.Setting) -> Plan:
    return Plan.model_validate(
        {
            "task": "units",
            "rounds": {
                "count": setting.rounds,
                "attempts": setting.attempts,
                "wait": setting.wait,
                "idle_seconds": IDLE,
                "grace_seconds": GRACE,
            },
            "cohort": {
                "size": setting.size,
                "min_survivors": setting.least,
                "wait_seconds": WAIT,
                "roster": setting.roster,
            },
            "protection": {"mode": setting.mode} | ({"max_colluding": 0} if setting.mode == "secagg" else {}),
        }
    )
