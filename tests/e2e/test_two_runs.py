"""Several runs at a time under secure aggregation: an attempt that waits for others stops no other run."""

import pytest
from harness import CLIENTS, Federation, plan

pytestmark = pytest.mark.e2e


def test_a_short_run_need_not_wait_for_a_long_one(federation: Federation) -> None:
    federation.serve()
    federation.clients(*CLIENTS)
    secagg = {"mode": "secagg"}
    long = federation.run(plan(count=1000, size=3, protection=secagg, parameters={"seconds": 0.2}))
    long.until(lambda d: len(d["rounds"]) >= 1)
    federation.run(plan(count=2, size=3, protection=secagg)).finished()
    assert long.popen.poll() is None, "the long one goes on"
    before = len(long.documents[-1]["rounds"])
    long.until(lambda d: len(d["rounds"]) > before)
