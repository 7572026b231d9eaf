"""The vector that a site keeps: what the codec says, part by part, and nothing that is not finite."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from unisono.base.ids import Digest
from unisono.client.trainer.at_rest import SealedFile
from unisono.client.trainer.failures import Failed
from unisono.client.trainer.kept import Shelf, keep
from unisono.client.trainer.update import Vector
from unisono.codec import Decoder, Rotation, Spec, SpecPart, decode_head, rotation_stream, rounding_stream
from unisono.crypto import AtRest
from unisono.tensors import Entry, Manifest, Piece

AT_REST, PLAN, MODEL = AtRest(bytes(32)), Digest("c" * 64), Digest("a" * 64)
MANIFEST = Manifest((Entry("b", (7,), "F32", True), Entry("w", (300, 1000), "F32", True)))
ROUNDING, SIGNS = rounding_stream(1, 2, "a", MODEL), rotation_stream(1, 2, PLAN)


def spec(bound: float, lanes: int = 21, parts: tuple[str, ...] = ("delta",)) -> Spec:
    rows = tuple(SpecPart(name, MANIFEST.length, bound, weighted=True) for name in parts)
    return Spec(lanes, 3, rows, ("one", "weight"), "hadamard")


def values(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return {e.name: random.standard_normal(e.size).astype(np.float32) for e in MANIFEST.entries}


def kept(folder: Path, layout: Spec, *sources: dict[str, NDArray[np.float32]]) -> NDArray[np.uint64]:
    def source_of(tensors: dict[str, NDArray[np.float32]]):  # type: ignore[no-untyped-def]
        def source(piece: Piece, begin: int, end: int) -> NDArray[np.float32]:
            return tensors[piece.entry.name][begin:end]

        return source

    named = {part.name: source_of(t) for part, t in zip(layout.parts, sources, strict=False)}
    vector = Vector(MANIFEST, named, {"one": 1.0, "weight": 0.5}, ROUNDING)
    seen: list[tuple[int, int]] = []
    shelf = Shelf(folder / "v", AT_REST, b"context")
    written = keep(shelf, layout, vector, SIGNS, lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    assert written.bytes == layout.bytes
    with SealedFile(shelf.path, AT_REST, b"context") as file:
        return np.frombuffer(bytes(file.read(0, file.length)), np.uint64)


def decoded(words: NDArray[np.uint64], layout: Spec, name: str) -> NDArray[np.float32]:
    part = layout.part(name)
    first, count = layout.word_range(name, 0, layout.coordinates(part))
    out = np.empty(layout.coordinates(part), np.float32)
    Decoder(layout, part, 1, 0.5).decode(words[first : first + count], out)
    Rotation(SIGNS, part.length, layout.start(name)).inverse(out)
    return out[: part.length]


def flat(tensors: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([tensors[e.name] for e in MANIFEST.entries])


def test_what_is_kept_decodes_to_what_was_learnt(tmp_path: Path) -> None:
    layout = spec(400.0, parts=("delta", "other"))
    words = kept(tmp_path, layout, values(0), values(1))
    for seed, name in enumerate(("delta", "other")):
        wanted = flat(values(seed))
        error = np.linalg.norm(decoded(words, layout, name) - wanted) / np.linalg.norm(wanted)
        assert error < 1e-4
    assert decode_head(words[layout.head_offset :], layout) == {"one": 1.0, "weight": 0.5}
    assert (tmp_path / "v").stat().st_mode & 0o777 == 0o600


def test_a_part_without_a_source_is_zeros(tmp_path: Path) -> None:
    layout = spec(400.0, parts=("delta", "other"))
    assert np.abs(decoded(kept(tmp_path, layout, values()), layout, "other")).max() < 1e-4


def test_a_long_update_is_shortened_to_the_bound_and_keeps_its_direction(tmp_path: Path) -> None:
    layout = spec(1.0)
    found, wanted = decoded(kept(tmp_path, layout, values()), layout, "delta"), flat(values())
    assert np.linalg.norm(found) == pytest.approx(1.0 / 0.5, rel=1e-3)
    assert found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_its_place(tmp_path: Path, wrong: float) -> None:
    tensors = values()
    tensors["w"][250_000] = wrong
    with pytest.raises(Failed, match="NaN or infinite"):
        kept(tmp_path, spec(1.0), tensors)
    assert not (tmp_path / "v").exists()
