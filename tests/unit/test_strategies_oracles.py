"""Each strategy against its paper's formula, written slowly in float64, over several rounds."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from unisono.strategies import State, Strategy, Sums, Vector, known, load, spec_for
from unisono.strategies.fedadam import FedAdam, FedAdamParameters
from unisono.strategies.fedavg import FedAvg, FedAvgParameters
from unisono.strategies.fedsgd import FedSGD, FedSGDParameters
from unisono.tensors import Entry, Manifest

MANIFEST = Manifest((Entry("w", (7,), "F32", True), Entry("n", (3,), "I64", False)))
counts = st.lists(st.integers(1, 1000), min_size=1, max_size=5)
seeds = st.integers(0, 2**32 - 1)


def sums_of(vectors: list[Vector], weights: list[float], part: str) -> Sums:
    mean = sum(w * v.astype(np.float64) for w, v in zip(weights, vectors, strict=True)) / sum(weights)
    return Sums({part: np.asarray(mean, np.float32)}, sum(weights), len(vectors))


def random_vector(rng: np.random.Generator, scale: float = 1.0) -> Vector:
    return (rng.standard_normal(7) * scale).astype(np.float32)


@given(seeds, counts)
def test_fedavg_is_the_weighted_mean_of_the_clients_models(seed: int, examples: list[int]) -> None:
    rng, p = np.random.default_rng(seed), FedAvgParameters()
    model = random_vector(rng)
    locals_ = [random_vector(rng) for _ in examples]
    state, new = FedAvg().apply(
        p, {}, model, sums_of([a - model for a in locals_], [float(n) for n in examples], "delta")
    )
    oracle = [
        math.fsum(n * float(a[k]) for n, a in zip(examples, locals_, strict=True)) / sum(examples)
        for k in range(7)
    ]
    assert state == {}
    assert np.allclose(new, oracle, rtol=1e-5, atol=1e-5)


def test_fedavg_scales_the_step() -> None:
    sums = Sums({"delta": np.array([1, -2], np.float32)}, 1.0, 1)
    _, new = FedAvg().apply(
        FedAvgParameters(server_learning_rate=0.5), {}, np.array([10, 10], np.float32), sums
    )
    assert new.tolist() == [10.5, 9]


@given(seeds, counts)
def test_fedsgd_is_one_step_on_everybodys_data(seed: int, examples: list[int]) -> None:
    """Least squares: the joined data's gradient is the example-weighted mean of the sites' gradients."""
    rng, p = np.random.default_rng(seed), FedSGDParameters(learning_rate=0.3)
    rows = [rng.standard_normal((min(n, 20), 7)) for n in examples]
    targets = [rng.standard_normal(len(r)) for r in rows]
    model = random_vector(rng)

    def gradient(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(2 * x.T @ (x @ model.astype(np.float64) - y) / len(y))

    local = [gradient(x, y).astype(np.float32) for x, y in zip(rows, targets, strict=True)]
    _, new = FedSGD().apply(p, {}, model, sums_of(local, [float(len(r)) for r in rows], "gradient"))
    oracle = model - 0.3 * gradient(np.concatenate(rows), np.concatenate(targets))
    assert np.allclose(new, oracle, rtol=1e-4, atol=1e-4)


@given(
    seeds,
    st.floats(0, 0.99),
    st.floats(0, 0.999),
    st.sampled_from([1e-5, 1e-3, 0.1]),
    st.integers(1, 6),
)
def test_fedadam_follows_algorithm_2_without_bias_correction(
    seed: int, beta1: float, beta2: float, tau: float, rounds: int
) -> None:
    rng, strategy = np.random.default_rng(seed), FedAdam()
    p = FedAdamParameters(learning_rate=0.1, beta1=beta1, beta2=beta2, tau=tau)
    model = random_vector(rng)
    state: Mapping[str, Vector] = {n: strategy.init(p, n, model) for n in strategy.state(p)}
    w, m, v = model.astype(np.float64), np.zeros(7), np.full(7, tau**2)
    for _ in range(rounds):
        delta = random_vector(rng, 0.05)
        state, model = strategy.apply(p, state, model, Sums({"delta": delta}, 1.0, 3))
        d = delta.astype(np.float64)
        m = beta1 * m + (1 - beta1) * d
        v = beta2 * v + (1 - beta2) * d**2
        w = w + 0.1 * m / (np.sqrt(v) + tau)
    # the sign of m may be decided by float32 rounding where the terms cancel: compare with the scale of m
    assert np.allclose(state["m"], m, rtol=1e-4, atol=1e-7)
    assert np.allclose(state["v"], v, rtol=1e-4, atol=0)
    assert np.allclose(model, w, rtol=1e-3, atol=1e-3)


def test_fedadam_by_hand() -> None:
    """One coordinate: m = 0.1, v = 0.99e-6 + 0.01, w = 1 + 0.01 * 0.1 / (sqrt(v) + 0.001)."""
    strategy, p, one = FedAdam(), FedAdamParameters(), np.ones(1, np.float32)
    state = {n: strategy.init(p, n, one) for n in ("m", "v")}
    after, model = strategy.apply(p, state, one, Sums({"delta": one}, 1.0, 1))
    assert np.allclose(after["v"], 0.99e-6 + 0.01, rtol=1e-6)
    assert np.allclose(model - 1, 0.001 / (math.sqrt(0.01000099) + 0.001), rtol=1e-4)


def bound(name: str) -> tuple[Strategy[BaseModel], BaseModel]:
    strategy = load(name)
    return strategy, strategy.Parameters()


ALL = pytest.mark.parametrize("name", ["fedadam", "fedavg", "fedsgd"])


@ALL
@given(seed=seeds, cut=st.integers(1, 6))
def test_a_strategy_does_not_care_how_the_vector_is_cut(name: str, seed: int, cut: int) -> None:
    """Bit for bit, and without touching its arguments: they are read-only."""
    strategy, p = bound(name)
    rng = np.random.default_rng(seed)
    part = strategy.parts(p, MANIFEST)[0].name
    model, change = random_vector(rng), random_vector(rng)
    state = {n: np.abs(random_vector(rng)) for n in strategy.state(p)}

    def run(where: slice) -> tuple[State, Vector]:
        for vector in (model, change, *state.values()):
            vector.flags.writeable = False
        return strategy.apply(
            p, {n: s[where] for n, s in state.items()}, model[where], Sums({part: change[where]}, 2.0, 3)
        )

    whole_state, whole = run(slice(None))
    pieces = [run(slice(0, cut)), run(slice(cut, 7))]
    assert whole.dtype == np.float32
    assert np.array_equal(whole, np.concatenate([new for _, new in pieces]))
    assert whole_state.keys() == set(strategy.state(p))
    for n, vector in whole_state.items():
        assert vector.dtype == np.float32
        assert np.array_equal(vector, np.concatenate([s[n] for s, _ in pieces]))


@ALL
def test_a_strategy_sends_one_vector_as_long_as_what_travels(name: str) -> None:
    strategy, p = bound(name)
    parts = strategy.parts(p, MANIFEST)
    assert [(part.length, part.weighted) for part in parts] == [(7, "examples")]
    assert strategy.name == name
    assert strategy.needs.local == ("gradient" if name == "fedsgd" else "")
    spec = spec_for(parts, {parts[0].name: 2.0}, ("loss",), lanes=32, clients=3)
    assert spec.head == ("one", "weight", "loss.sum", "loss.count")
    assert spec.words == 4 + 4
    for unknown in {"x"} - set(strategy.state(p)):
        with pytest.raises(KeyError):
            strategy.init(p, unknown, np.zeros(1, np.float32))


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("fedavg", {"server_learning_rate": 0}),
        ("fedavg", {"stratgy": 1}),
        ("fedsgd", {"learning_rate": math.inf}),
        ("fedadam", {"beta1": 1.0}),
        ("fedadam", {"beta2": -0.1}),
        ("fedadam", {"tau": 0}),
        ("fedadam", {"learning_rate": math.nan}),
    ],
)
def test_parameters_outside_their_range_are_refused(name: str, table: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        load(name).Parameters(**table)


def test_ours_are_known() -> None:
    assert {"fedadam", "fedavg", "fedsgd"} <= set(known())
