"""What a plan costs, held to arithmetic done by hand and to the real parts it counts."""

from pathlib import Path

import pytest
from secagg_world import journey, names

from unisono import strategies
from unisono.base.errors import BadConfiguration
from unisono.codec import expected_error
from unisono.codec.spec import Spec, SpecPart
from unisono.crypto.sealing import ENVELOPE
from unisono.crypto.segments import SEGMENT, TAG
from unisono.plan import parse
from unisono.plan.forecast import Packing, Sizes, forecast, packing, talk, update_bytes
from unisono.plan.layout import layout_of
from unisono.tensors import Entry, Manifest

PLAN = parse(b'task = "x"\n[protection]\nmode = "sealed"')
SUMS = parse(b'task = "x"\n[protection]\nmode = "secagg"')


def test_an_update_is_its_words_in_an_envelope() -> None:
    small = Sizes(length=301, file_bytes=2000, metrics=("accuracy",))
    assert update_bytes(PLAN, small, 3) == 8 * (151 + 2 + 2)
    spec = Spec(32, 3, (SpecPart("delta", 301, 1.0, True),), ("one", "weight", "a.sum", "a.count"))
    assert update_bytes(PLAN, small, 3) == spec.bytes
    told = forecast(PLAN, small, clients=3, link_bytes_per_second=1000)
    assert (told.bytes_down, told.bytes_up) == (2000, ENVELOPE + 8 * 155 + TAG)
    assert (told.round_bytes_out, told.round_bytes_in) == (6000, 3 * told.bytes_up)
    assert told.seconds == pytest.approx((2000 + told.bytes_up) / 1000)


def test_a_large_update_costs_little_over_float32() -> None:
    large = Sizes(length=25_000_000, file_bytes=100_000_400)
    told = forecast(PLAN, large, clients=8, link_bytes_per_second=2.5e6)
    plain = 8 * (12_500_000 + 2)
    assert told.bytes_up == ENVELOPE + plain + TAG * -(-plain // SEGMENT)
    assert (told.bytes_down + told.bytes_up) / 200_000_000 < 1.05
    assert 80 < told.seconds < 81


def test_memory_of_the_coordinator_does_not_grow_with_models_per_client() -> None:
    model = Sizes(length=25_000_000, file_bytes=100_000_400)
    two, hundred = (forecast(PLAN, model, n, 1e6).coordinator_memory for n in (2, 102))
    assert hundred - two == 100 * 2 * SEGMENT


def test_disk_holds_the_spool_the_kept_models_and_the_strategy_s_state() -> None:
    model = Sizes(length=1000, file_bytes=4100)
    keeps = parse(b'task = "x"\n[protection]\nmode = "sealed"\n[rounds]\nkeep_models = 5')
    plain, kept = (forecast(plan, model, 4, 1e6) for plan in (PLAN, keeps))
    assert plain.coordinator_disk == 4 * plain.bytes_up + 3 * 4100
    assert kept.coordinator_disk - plain.coordinator_disk == 5 * 4100
    adam = forecast(PLAN, model, 4, 1e6, state_vectors=2)
    assert adam.coordinator_disk - plain.coordinator_disk == 2 * 2 * 4000


def test_an_optimiser_with_moments_costs_the_client_two_vectors() -> None:
    model = Sizes(length=1000, file_bytes=4100)
    sgd = parse(b'task = "x"\n[protection]\nmode = "sealed"\n[training]\noptimizer = "sgd"')
    assert (
        forecast(PLAN, model, 2, 1e6).client_memory - forecast(sgd, model, 2, 1e6).client_memory == 2 * 4000
    )


def test_a_manifest_is_forecast_as_it_is() -> None:
    manifest = Manifest((Entry("w", (10, 30), "F32", True), Entry("n", (), "I64", False)), ("accuracy",))
    told = forecast(PLAN, manifest, 3, 1e6)
    assert told.bytes_down == manifest.file_bytes
    assert told.bytes_up == ENVELOPE + 8 * (150 + 4) + TAG


@pytest.mark.parametrize("length", [1, 4096, 4097, 301_000])
@pytest.mark.parametrize("clients", [3, 16, 17, 100])
@pytest.mark.parametrize("first", [True, False])
def test_a_masked_update_is_the_words_of_its_layout(length: int, clients: int, first: bool) -> None:
    manifest = Manifest((Entry("w", (length,), "F32", True),), ("accuracy",))
    spec = layout_of(SUMS, manifest, "train", 1 if first else 2, clients, (1.0,))
    assert update_bytes(SUMS, manifest, clients, first=first) == spec.bytes


@pytest.mark.parametrize("n", [5, 12])
def test_the_protocol_s_messages_are_counted(n: int) -> None:
    """Those of site 1, in an attempt that goes well."""
    trip = journey(n)
    up = sum(len(data) for (_, name), data in trip.up.items() if name == names(n)[0])
    down = sum(len(message.encode()) for message in trip.down.values())
    assert talk(SUMS, n) == pytest.approx((down, up), rel=0.05)
    assert talk(PLAN, n) == (0, 0)


def test_a_masked_update_is_0_4_of_a_sealed_one() -> None:
    large = Sizes(length=6_250_000, file_bytes=25_000_400)
    masked, sealed = (forecast(plan, large, 8, 2.5e6) for plan in (SUMS, PLAN))
    assert masked.bytes_up / sealed.bytes_up == pytest.approx(0.4, rel=0.01)
    assert masked.model == large.file_bytes < masked.bytes_down < 1.01 * large.file_bytes
    assert packing(SUMS, 8, first=False) == Packing(12, 1.6, expected_error(12, 8))
    assert packing(SUMS, 8, first=True) == Packing(21, 8 / 3, None)
    assert packing(PLAN, 8, first=False) == Packing(32, 4.0, None)


METHOD = """
from unisono.strategies import Needs
from unisono.strategies.fedavg import FedAvg

class Median(FedAvg):
    name = "median"
    needs = Needs(single_updates=True, optimisers=frozenset({"sgd"}))
"""


def test_what_a_strategy_needs_is_held_against_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "median_of_somebody.py").write_text(METHOD)
    meta = tmp_path / "median_of_somebody-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: median-of-somebody\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text("[unisono.strategies]\nmedian = median_of_somebody:Median\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "median" in strategies.known()
    start = 'task = "x"\n[aggregation]\nstrategy = "median"\n[training]\noptimizer = '
    sealed = '\n[protection]\nmode = "sealed"'
    assert parse(f'{start}"sgd"{sealed}'.encode()).aggregation.strategy == "median"
    with pytest.raises(BadConfiguration, match='line 5; use optimizer = "sgd"') as caught:
        parse(f'{start}"adam"{sealed}'.encode())
    assert '[training] optimizer = "adam" does not work with strategy "median"' in str(caught.value)
    with pytest.raises(
        BadConfiguration, match='"median" needs single updates, which protection "secagg" hides'
    ):
        parse(f'{start}"sgd"\n[protection]\nmode = "secagg"'.encode())
