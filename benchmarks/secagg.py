"""What secure aggregation costs by itself: the protocol, the masks, the codec's error and bytes.

    python benchmarks/secagg.py --clients 100 --mb 5 --drop 10 --json
    python benchmarks/secagg.py                         # the same as a table beside its goals
    python benchmarks/secagg.py --quick                 # a tenth of it, in a second

What the protocol's seconds have in them is said in `attempt`.  `--mb` is the size of the vector that travels.
Other programs make all of it slower: the protocol's CPU seconds (one thread: on an idle machine they are its
seconds) stand beside, and masks are measured in turns with cipher and addition, so that their ratio stays.
Nothing here fails because it was slow; a wrong sum does.  What a round costs over the network is
`rounds.py --protection secagg`.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from attempt import CHUNK, Client, attempt
from measuring import MB
from numpy.typing import NDArray
from table import Row, markdown

from unisono.base.ids import Digest
from unisono.codec import (
    Decoder,
    Encoder,
    Rotation,
    Spec,
    SpecPart,
    bytes_per_parameter,
    check_lanes,
    choose_lanes,
    first_bound,
    next_bound,
    norm,
    rotation_stream,
    rounding_stream,
)
from unisono.codec.head import head_names
from unisono.crypto import Stream, sha256_hex
from unisono.secagg.shared.masks import SCRATCH, Mask

Vector = NDArray[np.float32]
Found = dict[str, object]
FEW = 16  # clients of the codec's goals
GOALS = {12: 3e-4, 16: 3e-6, 21: 3e-9}


@dataclass(frozen=True, slots=True)
class Options:
    """How much of everything."""

    clients: int
    mb: float
    drop: int
    coordinates: int = 1 << 20
    model_mb: float = 25.0
    repeats: int = 40


def protocol(options: Options) -> Found:
    """Play an attempt.  The garbage collector is off: its pauses over a hundred clients are nobody's."""
    gc.collect()
    gc.disable()
    try:
        found = attempt(options.clients, round(options.mb * MB / 8), options.drop)
    finally:
        gc.enable()
    coordinator, clients = found.coordinator, found.clients
    seconds, cpu = [client.clock.seconds for client in clients], [client.clock.cpu for client in clients]
    assert found.exact, "the opened sum is not that of the survivors"
    return {
        "clients": options.clients,
        "vector_mb": options.mb,
        "lost_before": found.lost,
        "threshold": found.threshold,
        "client_seconds_median": _short(statistics.median(seconds)),
        "client_seconds_worst": _short(max(seconds)),
        "client_cpu_seconds_median": _short(statistics.median(cpu)),
        "client_cpu_seconds_worst": _short(max(cpu)),
        "client_seconds": _legs(clients),
        "client_bytes_up": max(client.sent for client in clients),
        "client_bytes_down": max(client.received for client in clients),
        "coordinator_seconds_all": _short(coordinator.clock.seconds),
        "coordinator_cpu_seconds": _short(coordinator.clock.cpu),
        "coordinator_seconds": {leg: _short(spent) for leg, spent in coordinator.clock.wall.items()},
        "masks_taken_off": coordinator.streams,
        "ledger_bytes": coordinator.ledger,
    }


def _legs(clients: list[Client]) -> dict[str, float]:
    legs = clients[0].clock.wall
    return {leg: _short(statistics.median(client.clock.wall[leg] for client in clients)) for leg in legs}


def masking(options: Options) -> Found:
    """Measure `Mask` against its two halves, in turns; one thread, the best of each."""
    scratch, words = np.empty(SCRATCH, np.uint64), np.zeros(CHUNK, np.uint64)
    piece = np.zeros_like(scratch)
    stream, mask = Stream(bytes(32)), Mask(b"m" * 32, scratch)
    pieces, at = CHUNK // SCRATCH, 0

    def cipher() -> None:
        for _ in range(pieces):
            stream.fill(scratch)

    def add() -> None:
        for _ in range(pieces):
            np.add(piece, scratch, out=piece)

    def masks() -> None:
        nonlocal at
        mask.add(words, at)
        at += words.nbytes

    best = _best((cipher, add, masks), options.repeats)
    rates = dict(zip(("cipher", "add", "masks"), (words.nbytes / seconds for seconds in best), strict=True))
    limit = 1 / (1 / rates["cipher"] + 1 / rates["add"])
    return {
        **{f"{name}_gb_per_second": _short(rate / 1e9) for name, rate in rates.items()},
        "cipher_and_add_gb_per_second": _short(limit / 1e9),
        "ratio": _short(rates["masks"] / limit),
    }


def _best(what: tuple[Callable[[], None], ...], times: int) -> list[float]:
    best = [float("inf")] * len(what)
    for _ in range(times):
        for which, act in enumerate(what):
            began = time.perf_counter()
            act()
            best[which] = min(best[which], time.perf_counter() - began)
    return best


@dataclass(frozen=True, slots=True)
class Cohort:
    """Rotated updates of 16 clients, and their mean in float64 as it was before."""

    key: bytes
    rotated: list[Vector]
    mean: NDArray[np.float64]


def drawn(kind: str, rng: np.random.Generator, size: int) -> Vector:
    """Return one client's update."""
    match kind:
        case "gaussian":
            return rng.standard_normal(size, np.float32)
        case "layered":  # 64 layers whose scales differ by up to a thousand
            scales = np.repeat(10 ** np.random.default_rng(5).uniform(-3, 0, 64), size // 64)
            return (rng.standard_normal(size) * scales).astype(np.float32)
    return rng.standard_t(2.5, size).astype(np.float32)


def cohort(kind: str, size: int) -> Cohort:
    rng, mean, rotated = np.random.default_rng(1), np.zeros(size), list[Vector]()
    key = rotation_stream(1, 1, sha256_hex(b"plan"))
    rotation = Rotation(key, size)
    for _ in range(FEW):
        update = drawn(kind, rng, size)
        mean += update
        rotation.forward(update)
        rotated.append(update)
    return Cohort(key, rotated, mean / FEW)


def error(options: Options) -> Found:
    """Return NMSE of the mean by lane width and kind of update.

    The bound follows the rule: round 1 has 21 bits and a model's norm, 30 times an update's; its sum gives
    the bound that is measured.
    """
    found: Found = {}
    for kind in ("gaussian", "layered", "heavy-tailed"):
        made = cohort(kind, options.coordinates)
        start = first_bound(30 * norm(made.rotated[0]))
        first = averaged(made, 21, start)
        bound = next_bound(start, norm(first), FEW, first.size)
        length = float(np.linalg.norm(made.mean))
        errors = {w: float(np.linalg.norm(averaged(made, w, bound) - made.mean)) / length for w in GOALS}
        found[kind] = {str(width): _short(value**2) for width, value in errors.items()}
    return found


def averaged(made: Cohort, width: int, bound: float) -> Vector:
    """Return the mean that a coordinator decodes: quantised, packed, added, checked, turned back."""
    size = made.mean.size
    part = SpecPart("update", size, bound, weighted=False)
    spec = Spec(width, FEW, (part,), (), "hadamard")
    total, words = np.zeros(spec.words, np.uint64), np.empty(spec.words, np.uint64)
    random, encoder = np.empty(size, "<u4"), Encoder(spec, part)
    for number, update in enumerate(made.rotated):
        Stream(rounding_stream(1, 2, f"site-{number}", Digest("00" * 32))).fill(random)
        encoder.encode(update, random, words)
        total += words
    check_lanes(spec, part, total, FEW, size)
    mean = np.empty(size, np.float32)
    Decoder(spec, part, FEW, FEW).decode(total, mean)
    Rotation(made.key, size).inverse(mean)
    return mean


def upload(options: Options) -> Found:
    """Count what one of 16 clients sends, all messages of the protocol included; TLS and gRPC are not."""
    coordinates = round(options.model_mb * MB / 4)
    width = choose_lanes(FEW, first=False)
    part = SpecPart("update", coordinates, 1.0, weighted=True)
    spec = Spec(width, FEW, (part,), head_names(("loss", "accuracy")), "hadamard")
    messages = max(client.sent for client in attempt(FEW, 64, 1).clients)
    return {
        "lanes": width,
        "parameters": coordinates,
        "vector_bytes": spec.bytes,
        "message_bytes": messages,
        "bytes_per_parameter": _short((spec.bytes + messages) / coordinates),
        "over_lanes": _short((spec.bytes + messages) / coordinates / bytes_per_parameter(width), 6),
    }


def rows(found: dict[str, Found]) -> list[Row]:
    """Return the goals of issue 4 beside what was found."""
    played, mask, sent = found["protocol"], found["masking"], found["upload"]
    table = [
        Row("protocol alone, client, median", (0.15, "s"), _number(played["client_seconds_median"])),
        Row("protocol alone, client, worst", (0.15, "s"), _number(played["client_seconds_worst"])),
        Row("protocol alone, client, worst, CPU", (0.15, "s"), _number(played["client_cpu_seconds_worst"])),
        Row("protocol alone, coordinator", (1.0, "s"), _number(played["coordinator_seconds_all"])),
        Row("protocol alone, coordinator, CPU", (1.0, "s"), _number(played["coordinator_cpu_seconds"])),
        Row("cipher + add over masking, bytes per second", (1 / 0.75, "x"), 1 / _number(mask["ratio"])),
        Row(
            "bytes up per parameter, 16 clients", (1.6 * 1.01, "bytes"), _number(sent["bytes_per_parameter"])
        ),
    ]
    for kind, errors in found["error"].items():
        assert isinstance(errors, dict)
        table += [
            Row(f"NMSE of 16 clients, {width} bits, {kind}", (most, ""), _number(errors[str(width)]))
            for width, most in GOALS.items()
        ]
    return table


def _number(value: object) -> float:
    return float(str(value))


def _short(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


PARTS: dict[str, Callable[[Options], Found]] = {
    "protocol": protocol,
    "masking": masking,
    "error": error,
    "upload": upload,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--mb", type=float, default=5.0, help="of the vector, in units of 10^6 bytes")
    parser.add_argument("--drop", type=int, default=10, help="clients that are lost, at different legs")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    options = Options(given.clients, given.mb, given.drop)
    if given.quick:
        options = Options(12, 0.5, 3, coordinates=1 << 16, repeats=10)
    found = {name: PARTS[name](options) for name in given.only or PARTS}
    if given.json or given.only:
        print(json.dumps(found))
    else:
        print(markdown(rows(found), "case, `secagg` alone"))


if __name__ == "__main__":
    main()
