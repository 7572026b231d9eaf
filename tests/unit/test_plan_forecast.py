"""What a plan costs, held to arithmetic done by hand and to the real parts it counts."""

from pathlib import Path

import pytest

from unisono import strategies
from unisono.base.errors import BadConfiguration
from unisono.codec.spec import Spec, SpecPart
from unisono.crypto.sealing import ENVELOPE
from unisono.crypto.segments import SEGMENT, TAG
from unisono.plan import parse
from unisono.plan.forecast import Sizes, forecast, update_bytes
from unisono.tensors import Entry, Manifest

PLAN = parse(b'task = "x"')


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
    keeps = parse(b'task = "x"\n[rounds]\nkeep_models = 5')
    plain, kept = (forecast(plan, model, 4, 1e6) for plan in (PLAN, keeps))
    assert plain.coordinator_disk == 4 * plain.bytes_up + 3 * 4100
    assert kept.coordinator_disk - plain.coordinator_disk == 5 * 4100
    adam = forecast(PLAN, model, 4, 1e6, state_vectors=2)
    assert adam.coordinator_disk - plain.coordinator_disk == 2 * 2 * 4000


def test_an_optimiser_with_moments_costs_the_client_two_vectors() -> None:
    model = Sizes(length=1000, file_bytes=4100)
    sgd = parse(b'task = "x"\n[training]\noptimizer = "sgd"')
    assert (
        forecast(PLAN, model, 2, 1e6).client_memory - forecast(sgd, model, 2, 1e6).client_memory == 2 * 4000
    )


def test_a_manifest_is_forecast_as_it_is() -> None:
    manifest = Manifest((Entry("w", (10, 30), "F32", True), Entry("n", (), "I64", False)), ("accuracy",))
    told = forecast(PLAN, manifest, 3, 1e6)
    assert told.bytes_down == manifest.file_bytes
    assert told.bytes_up == ENVELOPE + 8 * (150 + 4) + TAG


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
    assert parse(f'{start}"sgd"'.encode()).aggregation.strategy == "median"
    with pytest.raises(BadConfiguration, match='line 5; use optimizer = "sgd"') as caught:
        parse(f'{start}"adam"'.encode())
    assert '[training] optimizer = "adam" does not work with strategy "median"' in str(caught.value)
    with pytest.raises(
        BadConfiguration, match='"median" needs single updates, which protection "secagg" hides'
    ):
        parse(f'{start}"sgd"\n[protection]\nmode = "secagg"'.encode())
