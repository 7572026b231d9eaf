"""The coordinator never holds one client's update: not in memory, on its disk, in its logs, on its wire.

Every site adds a pattern that the test knows, so the test computes what each sent, in every form that it has
on its way: the change in float32, the model trained, the rotated vector, its levels, the packed words.  While
a run goes on the coordinator is stopped again and again and its whole memory copied, to be searched.  The
same search under `sealed`, where the coordinator opens each update, finds them: it can find what is there.
"""

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from harness import CLIENTS, Federation, plan
from looking import Looker, Sniffer, found_in
from numpy.typing import NDArray
from tasks import pattern

from unisono.base.ids import Digest
from unisono.codec import (
    Encoder,
    Rotation,
    Spec,
    client_weight,
    clipped_weight,
    decode_part,
    first_bound,
    norm,
    rotation_stream,
    rounding_stream,
)
from unisono.crypto import Stream, sha256_hex
from unisono.plan import Plan, digest, from_canonical
from unisono.plan.layout import layout_of
from unisono.tensors import Manifest

pytestmark = pytest.mark.e2e
SIZE = 60_000  # one chunk of the codec
AT = 1000  # where needles are taken from
Words = NDArray[np.uint64]


@dataclass
class Known:
    """What the test knows of a run: plan, manifest, the models of rounds 0 and 1."""

    plan: Plan
    manifest: Manifest
    first: Digest
    model: NDArray[np.float32]

    @property
    def spec(self) -> Spec:
        return layout_of(self.plan, self.manifest, "train", 1, 3, (first_bound(norm(self.model)),))

    def vector(self, name: str, number: int) -> "Sent":
        """Return what a site sends in round 1, in every form."""
        spec = self.spec
        (part,) = spec.parts
        trained = self.model + pattern(number, 1, SIZE)
        change = trained - self.model
        x = np.zeros(spec.coordinates(part), np.float32)
        x[:SIZE] = change
        weight = client_weight(10 * number, self.plan.training.max_examples)
        if spec.rotation != "none":
            Rotation(rotation_stream(self.plan.seed, 1, digest(self.plan)), SIZE).forward(x)
            weight = clipped_weight(weight, norm(x), part.bound)
        u = np.empty(x.size, "<u4")
        Stream(rounding_stream(self.plan.seed, 1, name, self.first)).fill(u)
        words = np.zeros(spec.head_offset, np.uint64)
        Encoder(spec, part, weight).encode(x, u, words)
        return Sent(change, trained, x, words)


@dataclass
class Sent:
    """One update in all its forms."""

    change: NDArray[np.float32]
    trained: NDArray[np.float32]
    turned: NDArray[np.float32]
    words: Words

    def needles(self, lanes: int) -> Iterator[tuple[str, bytes]]:
        """Yield stretches of 64 bytes and more, none of which two updates have in common."""
        window = slice(AT, AT + 16)
        yield "change", self.change[window].tobytes()
        yield "trained", self.trained[window].tobytes()
        yield "turned", self.turned[window].tobytes()
        yield "packed", self.words[AT : AT + 16].tobytes()
        levels = unpacked(self.words[AT : AT + 16], lanes)
        for kind in (np.uint16, np.uint32, np.uint64, np.float32, np.float64):
            yield f"levels as {np.dtype(kind)}", levels.astype(kind).tobytes()


def unpacked(words: Words, lanes: int) -> Words:
    """Return the lanes of these words, the lowest first."""
    mask = np.uint64((1 << lanes) - 1)
    each = [words >> np.uint64(lanes * place) & mask for place in range(64 // lanes)]
    return np.stack(each, axis=1).ravel()


def known(federation: Federation) -> Known:
    """Read plan and manifest from a site's own memory, the models with the operator's command."""
    row = sqlite3.connect(federation.site("anna") / "client" / "state.db").execute(
        "SELECT plan, manifest, model_sha256 FROM runs"
    )
    plan_bytes, manifest, first = row.fetchone()
    model = np.random.default_rng(7).normal(size=SIZE).astype(np.float32)
    return Known(from_canonical(plan_bytes), Manifest.decode(manifest), Digest(first), model)


def pulled_file(federation: Federation, round_: int) -> Path:
    """Return a model of the latest run."""
    out = federation.root / f"{len(list(federation.root.glob('*.safetensors')))}.safetensors"
    federation.ok("model", "pull", "--round", str(round_), "-o", out, "--dir", federation.operator)
    return out


def pulled(federation: Federation, round_: int) -> NDArray[np.float32]:
    return np.frombuffer(pulled_file(federation, round_).read_bytes()[-4 * SIZE :], "<f4")


def text(mode: str) -> str:
    protection = {"mode": mode} | ({"max_colluding": 0} if mode == "secagg" else {})
    return plan(
        2,
        3,
        protection=protection,
        parameters={"size": SIZE, "seconds": 0.5},
        rounds={"keep_models": 3},
    )


@dataclass
class Searched:
    """A run that was looked at: what a single site sent, and what everybody may know."""

    looker: Looker
    sniffer: Sniffer
    single: dict[str, bytes]
    model: dict[str, bytes]


def searched(federation: Federation, mode: str) -> Searched:
    """Run once quietly to learn what is sent; then the same run again, while somebody looks."""
    coordinator = federation.serve()
    for name in CLIENTS:
        federation.client(name, "Patterns")
    federation.run(text(mode)).finished()
    facts = known(federation)
    first = pulled(federation, 1)
    single, total = dict[str, bytes](), np.zeros(facts.spec.head_offset, np.uint64)
    for number, name in enumerate(CLIENTS, 1):
        sent = facts.vector(name, number)
        total += sent.words
        single |= {f"{name}: {form}": data for form, data in sent.needles(facts.spec.lanes)}
    check_sum(facts, total, first)
    sniffer = Sniffer(federation.port)
    looker = Looker(coordinator.popen.pid, federation.operator / "coordinator", every=0.1, most=16)
    try:
        again = federation.run(text(mode)).finished()
    finally:
        looker.close()
        sniffer.close()
    assert again["rounds"][0]["model_sha256"] == sha256_hex(pulled_file(federation, 1).read_bytes())
    return Searched(looker, sniffer, single, {"model": first[AT : AT + 16].tobytes()})


def check_sum(facts: Known, total: Words, model: NDArray[np.float32]) -> None:
    """What the test believes was sent adds up to the very model that came of it."""
    spec = facts.spec
    (part,) = spec.parts
    mean = np.empty(spec.coordinates(part), np.float32)
    decode_part(spec, part, total, 3, mean)
    if spec.rotation != "none":
        Rotation(rotation_stream(facts.plan.seed, 1, digest(facts.plan)), SIZE).inverse(mean)
    weights = sum(client_weight(10 * n, facts.plan.training.max_examples) for n in (1, 2, 3))
    np.testing.assert_allclose(facts.model + mean[:SIZE] / weights, model, atol=2e-6)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory needs root")


@needs_root
def test_under_secagg_no_update_is_anywhere_and_the_sum_is(federation: Federation) -> None:
    seen = searched(federation, "secagg")
    assert len(seen.looker.memories) >= 5
    assert seen.looker.in_memory(seen.model), "the search does not even find the model, which it has to"
    assert not seen.looker.in_memory(seen.single)
    assert not seen.looker.in_folder(seen.single | seen.model)
    assert len(seen.sniffer.seen) > 10 * SIZE, "the traffic was not captured"
    assert not found_in([bytes(seen.sniffer.seen)], seen.single | seen.model)
    logs = b"".join(path.read_bytes() for path in federation.root.glob("*.log"))
    assert not found_in([logs], seen.single)


@needs_root
def test_under_sealed_the_same_search_finds_updates_in_memory(federation: Federation) -> None:
    seen = searched(federation, "sealed")
    found = seen.looker.in_memory(seen.single)
    assert any(name.endswith(": packed") for name in found)
    assert not seen.looker.in_folder(seen.single)
