"""Every target over its seeds, over what was found once, and over Hypothesis' changes of both."""

import pytest
from fuzz_target import CORPUS, Target
from fuzz_targets import WHERE, target_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ALL = [target_of(name) for name in WHERE]
SLOW = {"service": 60, "chunk_sequence": 30, "secagg_up": 60, "secagg_down": 60, "secagg_state": 100}


@st.composite
def changed(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with some bytes cut out, put in, doubled, or overwritten."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 16))
        match draw(st.sampled_from(("cut", "put", "double", "set", "number"))):
            case "cut":
                del data[at : at + length]
            case "put":
                data[at:at] = draw(st.binary(max_size=16))
            case "double":
                data[at:at] = data[at : at + length]
            case "set":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "number":
                data[at : at + 8] = draw(st.sampled_from((b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7)))
    return bytes(data)


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_seeds_are_taken(target: Target) -> None:
    """A seed that is refused would fuzz the first check only."""
    seeds = list(target.seeds())
    assert seeds
    for seed in seeds:
        target.check(seed)


@pytest.mark.parametrize(
    ("target", "name", "data"),
    [(target, name, data) for target in ALL for name, data in target.corpus()],
    ids=lambda value: getattr(value, "name", None) or (value if isinstance(value, str) else ""),
)
def test_what_was_found_once(target: Target, name: str, data: bytes) -> None:
    target.measured(data)


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_changed_seeds(target: Target) -> None:
    seeds = [*target.seeds(), *(data for _, data in target.corpus())]

    @settings(
        max_examples=SLOW.get(target.name, 150),
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(changed(seeds) | st.binary(max_size=64))
    def tried(data: bytes) -> None:
        target.measured(data)

    tried()


def test_every_folder_of_the_corpus_has_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} <= set(WHERE)
