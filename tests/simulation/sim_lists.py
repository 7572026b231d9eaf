"""Worlds as Hypothesis draws them: a setting, and a list of operations that shrinks to what matters."""

import sim_ops as op
from hypothesis import strategies as st

SITE = st.integers(0, 3)
TOUCHES = st.integers(0, 12)
SECONDS = st.sampled_from([0.1, 0.2, 0.5, 0.5, 1.0, 1.0, 3.0, 9.0, 20.0])
STEPS = st.sampled_from([-100_000.0, -3600.0, 3600.0, 86_400.0, 1_900_000.0])


@st.composite
def settings(draw: st.DrawFn, mode: str = "") -> op.Setting:
    chosen = mode or draw(st.sampled_from(["sealed", "secagg"]))
    fewest = 3 if chosen == "secagg" else 1
    sites = draw(st.sampled_from([fewest, 3, 4]))
    return op.Setting(
        mode="sealed" if chosen == "sealed" else "secagg",
        sites=sites,
        absent=draw(st.sampled_from([0, 0, 0, 1])),
        rounds=draw(st.sampled_from([1, 1, 2])),
        wait=draw(st.sampled_from(["all", "quorum"])),
        size=draw(st.sampled_from([0, fewest, sites, sites])),
        attempts=draw(st.sampled_from([4, 2])),
        roster=draw(st.sampled_from(["frozen", "open"])) if chosen == "sealed" else "frozen",
    )


def operations() -> st.SearchStrategy[op.Op]:
    """Return one operation; progress is the likeliest, so that faults meet every part of a run."""
    goes_on = st.one_of(
        st.builds(op.Run, st.sampled_from([1, 3, 8, 20]), st.booleans()),
        st.builds(op.Only, SITE, st.sampled_from([1, 2, 5, 12])),
        st.builds(op.Advance, SECONDS),
    )
    network = st.one_of(
        st.builds(op.LoseRequest, SITE),
        st.builds(op.LoseReply, SITE),
        st.builds(op.Duplicate, SITE),
        st.builds(op.Late, SITE),
        st.builds(op.Ghost, st.integers(0, 3)),
        st.builds(op.Cut, SITE, st.integers(0, 12)),
    )
    machines = st.one_of(
        st.builds(op.KillCoordinator, TOUCHES, st.booleans()),
        st.just(op.StartCoordinator()),
        st.builds(op.KillSite, SITE, TOUCHES, st.booleans()),
        st.builds(op.StartSite, SITE),
        st.builds(op.DiskFull, st.integers(1, 4)),
        st.builds(op.DiskBad, st.integers(1, 4)),
        st.builds(op.SiteDiskFull, SITE, st.integers(1, 3)),
    )
    sites = st.one_of(
        st.builds(op.Slow, SITE, SECONDS, st.booleans()),
        st.builds(op.TaskRaises, SITE),
        st.builds(op.Leave, SITE),
        st.builds(op.ClockStep, st.integers(-1, 3), STEPS),
    )
    final = st.one_of(st.builds(op.Revoke, SITE), st.builds(op.Revoke, SITE), st.just(op.Stop()))
    kinds = [goes_on] * 12 + [network] * 8 + [machines] * 8 + [sites] * 3 + [final]
    return st.sampled_from(range(len(kinds))).flatmap(lambda kind: kinds[kind])


def lists(parts: int = 5) -> st.SearchStrategy[list[op.Op]]:
    """Return a list of operations; Hypothesis draws short lists, so it is put together from several."""
    part = st.lists(operations(), max_size=12)
    return st.tuples(*[part] * parts).map(lambda drawn: [what for some in drawn for what in some])


def worlds(mode: str = "") -> st.SearchStrategy[tuple[op.Setting, list[op.Op]]]:
    return st.tuples(settings(mode), lists())


# The fast tier: small steps, and troubles that last long enough to cost an attempt in any of its legs.

_Ops = list[op.Op]


def _alone(what: op.Op) -> _Ops:
    return [what]


def _restarted(touches: int, after: bool, seconds: float) -> _Ops:
    return [op.KillCoordinator(touches, after), op.Advance(seconds), op.StartCoordinator()]


_LITTLE: st.SearchStrategy[_Ops] = st.one_of(
    st.builds(op.Run, st.sampled_from([1, 2, 4, 8, 16]), st.booleans()),
    st.builds(op.Only, SITE, st.sampled_from([1, 2, 4, 8])),
    st.builds(op.Advance, st.sampled_from([0.05, 0.1, 0.1, 0.2, 0.5, 1.0])),
).map(_alone)
_LONG = st.builds(op.Advance, st.sampled_from([3.0, 9.0, 9.0, 20.0]))
_GOES = st.one_of(
    st.builds(op.KillSite, SITE, TOUCHES, st.booleans()),
    st.builds(op.Leave, SITE),
    st.builds(op.TaskRaises, SITE),
    st.builds(op.Slow, SITE, st.sampled_from([2.0, 9.0, 20.0]), st.booleans()),
)
_FINAL = st.one_of(
    st.builds(op.Revoke, SITE), st.builds(op.Revoke, SITE), st.builds(op.Revoke, SITE), st.just(op.Stop())
)


def episodes() -> st.SearchStrategy[list[op.Op]]:
    """Return a few operations that belong together: sites that go away, and time enough to miss them."""
    gone = st.lists(_GOES, min_size=1, max_size=3)
    missed: st.SearchStrategy[_Ops] = st.tuples(gone, _LONG).map(lambda found: [*found[0], found[1]])
    starts: st.SearchStrategy[op.Op] = st.builds(op.StartSite, SITE)
    back: st.SearchStrategy[_Ops] = st.lists(starts, min_size=1, max_size=2)
    restart = st.builds(_restarted, TOUCHES, st.booleans(), st.sampled_from([0.1, 0.5, 9.0]))
    final = _FINAL.map(_alone)
    kinds: list[st.SearchStrategy[_Ops]] = [_LITTLE] * 10 + [operations().map(_alone)] * 6
    kinds += [missed] * 4 + [back] * 2 + [restart] * 3 + [final]
    return st.sampled_from(range(len(kinds))).flatmap(lambda kind: kinds[kind])


def core_worlds() -> st.SearchStrategy[tuple[op.Setting, list[op.Op]]]:
    part = st.lists(episodes(), max_size=9)
    drawn = st.tuples(*[part] * 4)
    begin = st.sampled_from([[], [op.Advance(0.3)], [op.Advance(0.3)], [op.Advance(1.0)]])  # most: all joined
    flat = st.tuples(begin, drawn).map(
        lambda found: [*found[0], *(what for some in found[1] for episode in some for what in episode)]
    )
    chosen = st.sampled_from(["secagg", "secagg", "secagg", "sealed"]).flatmap(settings)
    return st.tuples(chosen, flat)
