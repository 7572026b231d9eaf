"""Worlds that always run: one for each promise, and one for each bug that the simulation has found."""

from collections.abc import Iterable

import sim_ops as op

SEALED, SECAGG = op.Setting(mode="sealed"), op.Setting(mode="secagg")
FOUR = op.Setting(mode="secagg", sites=4)
World = tuple[op.Setting, list[op.Op]]


def dying(touches: Iterable[int], *, after: bool = False) -> list[op.Op]:
    """Let the coordinator die at its n-th touch of the disk, for each n, in one life after the other."""
    found: list[op.Op] = []
    for number in touches:
        found += [op.KillCoordinator(number, after), op.Advance(1.0), op.StartCoordinator(), op.Run(2)]
    return found


PINNED: dict[str, World] = {
    "nothing goes wrong, sealed": (SEALED, []),
    "nothing goes wrong, secagg": (SECAGG, []),
    "two rounds of four": (op.Setting(mode="secagg", sites=4, rounds=2), []),
    "every reply of one site is lost for a while": (
        SECAGG,
        [step for _ in range(40) for step in (op.LoseReply(1), op.Advance(0.5))],
    ),
    "every second request comes twice": (
        SEALED,
        [step for site in range(30) for step in (op.Duplicate(site), op.Run(3), op.Ghost(), op.Ghost())],
    ),
    "the coordinator dies again and again, later each time": (SECAGG, dying(range(3, 28))),
    "the coordinator dies again and again after its touch": (SEALED, dying(range(4, 24), after=True)),
    "the coordinator dies with each of its first orders": (
        SEALED,
        [op.Slow(0, 3.0), op.Advance(6.0), *dying([1, 2, 3, 4, 5, 6, 7, 8, 9], after=True)],
    ),
    "each site dies at every fourth transaction": (
        SECAGG,
        [
            step
            for number in range(45)
            for step in (op.KillSite(number, 4, number % 2 > 0), op.Advance(0.5), op.StartSite(number))
        ],
    ),
    "a site dies after ever more messages": (
        SECAGG,
        [
            step
            for number in range(1, 24)
            for step in (op.Advance(0.1), op.Only(0, number), op.KillSite(0), op.StartSite(0))
        ],
    ),
    "all say their word at once, and the disk is full": (
        FOUR,
        [step for _ in range(12) for step in (op.DiskFull(2), op.Run(6, together=True), op.Advance(3.0))],
    ),
    "a site is revoked once its update counts": (
        FOUR,
        [op.Slow(3, 9.0), op.Advance(6.0), op.Revoke(0), op.Advance(30.0)],
    ),
    # Found: a run was stopped while its first model arrived; the file lay there until the next start.
    "stopped while the first model arrives": (
        op.Setting(mode="secagg", size=3),
        [op.Advance(0.3), op.Stop()],
    ),
    # Found: a masked update was acknowledged, its site said goodbye, and the sum was made without it.
    "a site leaves once its masked update is acknowledged": (
        op.Setting(mode="secagg", sites=4, size=4),
        [op.Slow(3, 9.0), op.Advance(6.0), op.Leave(0), op.Advance(30.0)],
    ),
    "too few are left once some have uploaded, and the coordinator dies before it is tried again": (
        op.Setting(mode="secagg", sites=4, size=4, attempts=12),
        [
            *(op.Slow(2, 30.0, mute=True), op.Slow(3, 30.0, mute=True), op.Advance(14.0)),
            *(op.KillCoordinator(), op.StartCoordinator(), op.Advance(30.0)),
        ],
    ),
    "survivors go before they agree, and come back": (
        FOUR,
        [op.Slow(0, 2.0), op.Advance(1.9), op.Leave(1), op.Leave(2), op.Advance(4.0), op.StartSite(1)],
    ),
    "one goes once it has shared, and the others upload": (
        FOUR,
        [op.Slow(3, 20.0, mute=True), op.Advance(30.0)],
    ),
    # Found: nobody was given up while the disk was full, and a revocation failed: the log line of it raised.
    "a silent site is given up while the disk is full": (
        op.Setting(mode="sealed", size=3),
        [op.Slow(0, 60.0, mute=True), op.Advance(7.5), op.DiskFull(3), op.Advance(20.0)],
    ),
}
