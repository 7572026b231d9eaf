"""From uploads to the next model, against an oracle in float64 that has the whole model in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import BaseModel

from unisono.base.errors import BadConfiguration, BadUpdate, Corrupt, Fault
from unisono.codec import CHUNK, LANES, Encoder, Spec, client_weight, encode_head
from unisono.server.aggregation import Apply, Inputs, RunningSum, read_head
from unisono.strategies import State, Strategy, Sums, Vector, load, spec_for
from unisono.strategies.fedavg import FedAvg, FedAvgParameters
from unisono.tensors import Entry, Manifest, Reader, Travelling, check_header, from_float32

SMALL = Manifest(
    (
        Entry("a.weight", (4, 3), "F32", True),
        Entry("b.frozen", (5,), "F32", False),
        Entry("c.half", (9,), "F16", True),
        Entry("d.brain", (2, 4), "BF16", True),
        Entry("e.double", (3,), "F64", True),
        Entry("f.steps", (), "I64", False),
        Entry("g.mask", (3,), "BOOL", False),
        Entry("h.empty", (0, 2), "F32", True),
    ),
    ("loss",),
)


def reader(data: bytes) -> Reader:
    return lambda offset, length: data[offset : offset + length]


def random_file(manifest: Manifest, rng: np.random.Generator) -> bytes:
    def raw(e: Entry) -> bytes:
        if e.dtype[0] in "FB" and e.dtype != "BOOL":
            return from_float32(rng.standard_normal(e.size).astype(np.float32), e.dtype)
        return rng.integers(0, 2, e.bytes, np.uint8).tobytes()

    return manifest.header + b"".join(raw(e) for e in manifest.entries)


@dataclass
class Round:
    """Uploads of some clients, summed; and what they were."""

    inputs: Inputs
    total: RunningSum
    mean: NDArray[np.float64]
    tolerance: float


def upload(spec: Spec, x: Vector, examples: int, rng: np.random.Generator) -> NDArray[np.uint64]:
    weight = client_weight(examples, 100)
    words = np.zeros(spec.words, np.uint64)
    random = rng.integers(0, 2**32, x.size, np.uint32)
    Encoder(spec, spec.parts[0], weight).encode(x, random, words[: spec.head_offset])
    head = {"one": 1.0, "weight": weight, "loss.sum": 0.5 * examples, "loss.count": float(examples)}
    words[spec.head_offset :] = encode_head({n: head[n] for n in spec.head}, spec)
    return words


def play(
    manifest: Manifest,
    name: str,
    *,
    lanes: int = 32,
    seed: int = 0,
    states: Mapping[str, Reader] | None = None,
) -> Round:
    """Three of five clients send random changes; the sum is made in any order."""
    rng = np.random.default_rng(seed)
    strategy = load(name)
    p = strategy.Parameters()
    parts = strategy.parts(p, manifest)
    spec = spec_for(parts, {parts[0].name: 1.0}, manifest.metrics, lanes=lanes, clients=5)
    total, examples = RunningSum(spec.words), [100, 7, 250]
    changes = [rng.uniform(-0.3, 0.3, manifest.length).astype(np.float32) for _ in examples]
    for x, n in zip(changes, examples, strict=True):
        total.add(0, upload(spec, x, n, rng))
    weights = [client_weight(n, 100) for n in examples]
    mean = sum(w * x.astype(np.float64) for w, x in zip(weights, changes, strict=True)) / sum(weights)
    file = reader(random_file(manifest, rng))
    inputs = Inputs(spec, manifest, strategy, p, 3, file, total.read, states or {})
    return Round(inputs, total, np.asarray(mean), 3 / spec.levels / sum(weights))


def collect(apply: Apply) -> dict[str | None, bytes]:
    found: dict[str | None, bytes] = {}
    for produced in apply:
        found[produced.state] = found.get(produced.state, b"") + produced.data
    return found


@pytest.mark.parametrize("lanes", LANES)
@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_fedavg_adds_the_mean_to_what_travels_and_copies_the_rest(lanes: int, seed: int) -> None:
    played = play(SMALL, "fedavg", lanes=lanes, seed=seed)
    old = Travelling(SMALL, played.inputs.model).values(0, SMALL.length)
    apply = Apply(played.inputs)
    new = collect(apply)[None]
    check_header(new, SMALL)
    assert len(new) == SMALL.file_bytes
    expected = old + played.mean
    found = Travelling(SMALL, reader(new)).values(0, SMALL.length)
    for piece in SMALL.pieces():
        place = slice(piece.file_offset, piece.file_offset + piece.bytes)
        if piece.start is None:
            assert new[place] == played.inputs.model(piece.file_offset, piece.bytes)
            continue
        step = {"F16": 2**-10, "BF16": 2**-7}.get(piece.entry.dtype, 1e-6)  # rounding of the stored type
        here = slice(piece.start, piece.start + piece.entry.size)
        allowed = played.tolerance + step * np.abs(expected[here]) + 1e-6
        assert (np.abs(found[here] - expected[here]) <= allowed).all()
    assert apply.outcome.metrics == {"loss": 0.5}
    assert apply.outcome.weight == pytest.approx(2.07, abs=1e-6)
    sent = np.linalg.norm(played.mean) * 2.07 / 3
    assert apply.outcome.mean_norm["delta"] == pytest.approx(sent, abs=played.tolerance * 10)


MIXED = Manifest(
    (
        Entry("a", (CHUNK + 17,), "F32", True),
        Entry("b", (300_000,), "F32", False),
        Entry("c", (1001,), "F32", True),
        Entry("d", (CHUNK // 2,), "BF16", True),
        Entry("n", (), "I64", False),
    )
)


def test_models_of_many_blocks_come_in_even_slices_and_bit_for_bit_again() -> None:
    played = play(MIXED, "fedadam")
    first = list(Apply(played.inputs))
    again = collect(Apply(played.inputs, segment=1 << 18))
    for stream in (None, "m", "v"):
        slices = [p.data for p in first if p.state == stream]
        assert {len(data) for data in slices[:-1]} == {1 << 20}
        assert 0 < len(slices[-1]) <= 1 << 20
        assert b"".join(slices) == again[stream]
    assert len(again["m"]) == 4 * MIXED.length
    old = Travelling(MIXED, played.inputs.model).values(0, MIXED.length)
    m, v = 0.1 * played.mean, 0.99e-6 + 0.01 * played.mean**2
    assert np.allclose(np.frombuffer(again["m"], "<f4"), m, atol=played.tolerance)
    expected = old + 0.01 * m / (np.sqrt(v) + 1e-3)
    found = Travelling(MIXED, reader(again[None])).values(0, MIXED.length)
    halves = MIXED.length - CHUNK // 2
    assert np.allclose(found[:halves], expected[:halves], atol=1e-5)
    assert np.allclose(found[halves:], expected[halves:], rtol=2**-7, atol=1e-5)
    assert safetensors.numpy.load(first_file(again))["n"].shape == ()


def first_file(streams: Mapping[str | None, bytes]) -> bytes:
    """The same file with its bfloat16 renamed: safetensors' NumPy side cannot load that type."""
    return streams[None].replace(b'"BF16"', b'"I16" ')


def test_state_is_read_back_where_it_was_written() -> None:
    first = collect(Apply(play(SMALL, "fedadam").inputs))
    kept = {name: reader(data) for name, data in first.items() if name is not None}
    second = collect(Apply(play(SMALL, "fedadam", seed=1, states=kept).inputs))
    mean = play(SMALL, "fedadam", seed=1).mean
    expected = 0.9 * np.frombuffer(first["m"], "<f4") + 0.1 * mean
    assert np.allclose(np.frombuffer(second["m"], "<f4"), expected, atol=1e-6)


def test_the_order_of_uploads_and_chunks_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    uploads = rng.integers(0, 2**64, (3, 100), np.uint64)
    whole, cut = RunningSum(100), RunningSum(100)
    for words in uploads:
        whole.add(0, words)
    for start in (60, 0, 30):
        for words in uploads[::-1]:
            cut.add(start, words[start : start + (40 if start == 60 else 30)])
    assert np.array_equal(whole.values, cut.values)
    assert [int(v) for v in whole.values] == [sum(map(int, column)) % 2**64 for column in uploads.T]
    assert bytes(whole.read(16, 8)) == int(whole.values[2]).to_bytes(8, "little")
    for offset in (-1, 61):
        with pytest.raises(BadUpdate, match="of an update of 100 words"):
            whole.add(offset, uploads[0, :40])


def test_a_double_that_does_not_change_keeps_all_its_digits() -> None:
    manifest = Manifest((Entry("w", (2,), "F64", True),), ("loss",))
    played = play(manifest, "fedavg")
    exact = manifest.header + np.array([0.1, 1 / 3]).tobytes()
    still = RunningSum(played.inputs.spec.words)
    rng = np.random.default_rng(0)
    for _ in range(3):
        still.add(0, upload(played.inputs.spec, np.zeros(2, np.float32), 5, rng))
    inputs = replace(played.inputs, model=reader(exact), sums=still.read)
    assert collect(Apply(inputs))[None] == exact


def spoil(played: Round, word: int, change: int) -> Inputs:
    played.total.values[word : word + 1 or None] += np.uint64(change % 2**64)  # a slice wraps in silence
    return played.inputs


@pytest.mark.parametrize(
    ("word", "change", "words"),
    [
        (-4, 1, r"the sum counts 3\.00000005\d* clients"),
        (-4, 1 << 24, r"the sum counts 4\.0 clients, not the 3 survivors"),
        (-4, -(1 << 24), r"the sum counts 2\.0 clients"),
        (-3, -(3 << 24), "weights of 3 clients sum to -0.93"),
        (-3, 1 << 24, "weights of 3 clients sum to 3.07"),
        (-1, -(1 << 40), 'metric "loss" has the count'),
    ],
)
def test_a_wrong_head_is_heard(word: int, change: int, words: str) -> None:
    with pytest.raises(BadUpdate, match=words):
        Apply(spoil(play(SMALL, "fedavg"), word, change))


def test_a_wrong_lane_is_heard() -> None:
    apply = Apply(spoil(play(SMALL, "fedavg"), 1, 2**31))
    with pytest.raises(BadUpdate, match='part "delta": a lane of the sum'):
        collect(apply)
    with pytest.raises(Fault, match="is known when its model is written"):
        _ = apply.outcome
    with pytest.raises(Fault, match="runs once"):
        collect(apply)


def test_a_round_of_evaluation_has_only_a_head() -> None:
    spec = Spec(32, 5, (), play(SMALL, "fedavg").inputs.spec.head)
    words = sum(
        encode_head({"one": 1.0, "weight": 0.0, "loss.sum": s, "loss.count": c}, spec)
        for s, c in ((1.0, 2.0), (0.0, 0.0))
    )
    assert isinstance(words, np.ndarray)
    outcome = read_head(spec, words, 2)
    assert (outcome.metrics, outcome.weight, outcome.mean_norm) == ({"loss": 0.5}, 0.0, {})
    nobody = encode_head({"one": 1.0, "weight": 0.0, "loss.sum": 0.0, "loss.count": 0.0}, spec)
    assert read_head(spec, nobody, 1).metrics == {}


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_a_model_that_overflows_is_refused(dtype: str) -> None:
    manifest = Manifest((Entry("w", (2,), dtype, True),), ("loss",))
    largest = {"F16": 65504.0, "BF16": 3.3895e38, "F32": 3.4e38}[dtype]
    played = play(manifest, "fedavg")
    file = manifest.header + from_float32(np.full(2, largest, np.float32), dtype)
    part = replace(played.inputs.spec.parts[0], bound=1e30)
    big = replace(
        played.inputs,
        spec=replace(played.inputs.spec, parts=(part,)),
        model=reader(file),
        parameters=FedAvgParameters(server_learning_rate=100),
    )
    if dtype == "F16":
        with pytest.raises(BadUpdate, match='next "w" in F16'):
            collect(Apply(big))
    grown = replace(big, strategy=Doubling(lambda v: v + v))  # type: ignore[arg-type]  # its P is FedAvg's
    with pytest.raises(BadUpdate, match="not finite"), np.errstate(over="ignore"):
        collect(Apply(grown))


class Doubling(FedAvg):
    """A strategy that breaks the contract in a way given to it."""

    name = "doubling"

    def __init__(self, change: Callable[[Vector], Vector]) -> None:
        self._change = change

    def apply(
        self, p: FedAvgParameters, state: Mapping[str, Vector], model: Vector, sums: Sums
    ) -> tuple[State, Vector]:
        return {}, self._change(model)


def broken(change: Callable[[Vector], Vector]) -> Strategy[BaseModel]:
    return Doubling(change)  # type: ignore[return-value]  # its P is FedAvg's


@pytest.mark.parametrize(
    "change", [lambda v: v.astype(np.float64), lambda v: v[:-1]], ids=["another type", "another length"]
)
def test_a_strategy_that_breaks_the_contract_is_named(change: Callable[[Vector], Vector]) -> None:
    inputs = replace(play(SMALL, "fedavg").inputs, strategy=broken(change))
    with pytest.raises(BadConfiguration, match=r'strategy "doubling": next model .* is float'):
        collect(Apply(inputs))


def test_a_strategy_cannot_write_into_the_old_model() -> None:
    inputs = replace(play(SMALL, "fedavg").inputs, strategy=broken(lambda v: np.add(v, 1, out=v)))
    with pytest.raises(ValueError, match="read-only"):
        collect(Apply(inputs))


def test_inputs_that_end_early_are_corrupt() -> None:
    good = play(SMALL, "fedadam")
    short: Reader = lambda offset, length: b""  # noqa: E731
    with pytest.raises(Corrupt, match="the sum ends"):
        Apply(replace(good.inputs, sums=short))
    with pytest.raises(Corrupt, match="the file ends inside tensor"):
        collect(Apply(replace(good.inputs, model=short)))
    with pytest.raises(Corrupt, match='state "m" ends'):
        collect(Apply(replace(good.inputs, states={"m": short})))


def test_a_spec_of_another_strategy_is_our_own_fault() -> None:
    played = play(SMALL, "fedavg")
    with pytest.raises(Fault, match='parts of strategy "fedsgd"'):
        Apply(replace(played.inputs, strategy=load("fedsgd"), parameters=load("fedsgd").Parameters()))
