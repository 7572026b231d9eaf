"""The running sum of each run's current attempt, folded from sealed updates as they arrive.

Derived state: after a crash it is rebuilt from the spool.  An update is opened, checked and added before it
is acknowledged: nothing that does not open or breaks a limit is ever counted.  A sum that turns out to hold
a client too many (its upload came a moment too late) is begun again.  All of this runs in one thread
(`Workers.sum`).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unisono.base.errors import Corrupt
from unisono.base.ids import ClientName, Digest, RunId
from unisono.codec import Spec, check_lanes
from unisono.crypto import ENVELOPE, SEGMENT, TAG, SealingKey, layout, open_from
from unisono.secagg.shared.keys import MaskStream
from unisono.secagg.shared.masks import SCRATCH, Mask
from unisono.server.aggregation import RunningSum, read_head
from unisono.telemetry.meters import Meters

from .workers import CORES, at_once

Words = NDArray[np.uint64]
STRETCH = 1 << 17  # words: 1 MiB unmasked at a time


@dataclass(frozen=True, slots=True)
class Sealed:
    """One update in the spool: where it lies and what it is bound to."""

    client: ClientName
    digest: Digest
    path: Path
    context: bytes


@dataclass(frozen=True, slots=True)
class Masked:
    """One masked update in the spool: words that mean nothing until they are added up and unmasked."""

    client: ClientName
    digest: Digest
    path: Path


Spooled = Sealed | Masked


@dataclass(slots=True)
class Partial:
    """What is summed so far of one attempt."""

    round: int
    attempt: int
    spec: Spec
    total: RunningSum
    counted: dict[ClientName, Digest] = field(default_factory=dict)


class Sums:
    """At most one partial sum a run: O(1) models, however many clients."""

    def __init__(self, key: SealingKey, meters: Meters | None = None) -> None:
        self._key, self._meters = key, meters or Meters()
        self._partials: dict[RunId, Partial] = {}
        self._sealed = bytearray(SEGMENT + TAG)
        self._plain = np.empty(SEGMENT // 8, np.uint64)

    def fold(self, run: RunId, round_: int, attempt: int, spec: Spec, update: Spooled) -> None:
        """Open, check and add one update, in one pass.  Raises Corrupt or BadUpdate: then it is in no sum."""
        partial = self._partial(run, round_, attempt, spec)
        if partial.counted.get(update.client) == update.digest:
            return
        if update.client in partial.counted:  # it sent other bytes before, which came to nothing
            self.drop(run)
            partial = self._partial(run, round_, attempt, spec)
        with self._meters.folding():
            self._add(partial, update, check=isinstance(update, Sealed))

    def opened(
        self,
        run: RunId,
        round_: int,
        attempt: int,
        spec: Spec,
        updates: Mapping[ClientName, Spooled],
        streams: Sequence[MaskStream],
    ) -> Words:
        """Return the sum of exactly these masked updates, their masks taken out.

        It leaves this object: no masked update can be added to it any more.  Every stretch is worked on
        alone, by as many threads as there are cores.
        """
        total = self.total(run, round_, attempt, spec, updates)
        self.drop(run)
        step = max(1, min(STRETCH, -(-total.size // CORES)))
        at_once(
            lambda start: _unmask(total[start : start + step], 8 * start, streams),
            range(0, total.size, step),
        )
        return total

    def total(
        self, run: RunId, round_: int, attempt: int, spec: Spec, updates: Mapping[ClientName, Spooled]
    ) -> Words:
        """Return the sum of exactly these updates, reading from the spool what is not in it yet."""
        partial = self._partial(run, round_, attempt, spec)
        wanted = {client: update.digest for client, update in updates.items()}
        if any(wanted.get(client) != digest for client, digest in partial.counted.items()):
            self.drop(run)
            partial = self._partial(run, round_, attempt, spec)
        for client, update in updates.items():
            if client not in partial.counted:
                self._add(partial, update)
        return partial.total.values

    def drop_until(self, run: RunId, round_: int, attempt: int) -> None:
        """Free a run's sum if it is of this attempt or an earlier one."""
        found = self._partials.get(run)
        if found is not None and (found.round, found.attempt) <= (round_, attempt):
            del self._partials[run]

    def drop(self, run: RunId) -> None:
        """Free a run's sum."""
        self._partials.pop(run, None)

    def _partial(self, run: RunId, round_: int, attempt: int, spec: Spec) -> Partial:
        found = self._partials.get(run)
        if found is None or (found.round, found.attempt, found.spec) != (round_, attempt, spec):
            found = Partial(round_, attempt, spec, RunningSum(spec.words))
            self._partials[run] = found
        return found

    def _add(self, partial: Partial, update: Spooled, *, check: bool = False) -> None:
        spec, head = partial.spec, np.empty(len(partial.spec.head), np.uint64)
        try:
            for offset, words in self._words(update, spec):
                if check:
                    _check_lanes(spec, offset, words)
                    _copy_head(spec, offset, words, head)
                partial.total.add(offset, words)
            if check:
                read_head(spec, head, 1)  # "one" is 1, the weight at most 1, no count below 0
        except BaseException:  # half of an update may be in it: begin again from the spool
            self._partials = {run: kept for run, kept in self._partials.items() if kept is not partial}
            raise
        partial.counted[update.client] = update.digest

    def _words(self, update: Spooled, spec: Spec) -> Iterator[tuple[int, Words]]:
        """Yield (first word, words) of each stretch; the words are overwritten by the next."""
        return self._open(update, spec) if isinstance(update, Sealed) else self._read(update, spec)

    def _read(self, update: Masked, spec: Spec) -> Iterator[tuple[int, Words]]:
        try:
            handle = os.open(update.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Corrupt(f"the update of {update.client} is not in the spool any more") from None
        buffer = self._plain.view(np.uint8).data
        try:
            for start in range(0, spec.bytes, SEGMENT):
                wanted = buffer[: min(SEGMENT, spec.bytes - start)]
                if os.preadv(handle, [wanted], start) != len(wanted):
                    raise Corrupt(f"the update of {update.client} became shorter in the spool")
                yield start // 8, self._plain[: len(wanted) // 8]
        finally:
            os.close(handle)

    def _open(self, update: Sealed, spec: Spec) -> Iterator[tuple[int, Words]]:
        try:
            handle = os.open(update.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Corrupt(f"the update of {update.client} is not in the spool any more") from None
        try:
            opener = open_from(self._key, os.pread(handle, ENVELOPE, 0), update.context)
            for index, start, stop, last in layout(spec.bytes):
                sealed = memoryview(self._sealed)[: stop - start + TAG]
                read = os.preadv(handle, [sealed], ENVELOPE + index * (SEGMENT + TAG))
                opener.open_into(index, sealed[:read], self._plain, last=last)
                yield start // 8, self._plain[: (stop - start) // 8]
        finally:
            os.close(handle)


def _unmask(words: Words, offset: int, streams: Sequence[MaskStream]) -> None:
    scratch = np.empty(SCRATCH, "<u8")
    for stream in streams:
        mask = Mask(stream.key, scratch)
        (mask.add if stream.add else mask.subtract)(words, offset)


def _check_lanes(spec: Spec, offset: int, words: Words) -> None:
    """Refuse a lane above 2Q: it would carry into its neighbour in the sum."""
    for part in spec.parts:
        first = spec.offset(part.name)
        begin = max(first, offset)
        end = min(first + spec.word_range(part.name, 0, part.length)[1], offset + words.size)
        if begin < end:
            check_lanes(spec, part, words[begin - offset : end - offset], 1)


def _copy_head(spec: Spec, offset: int, words: Words, head: Words) -> None:
    """Keep the words of the head that this segment holds."""
    begin, end = max(spec.head_offset, offset), min(spec.words, offset + words.size)
    if begin < end:
        head[begin - spec.head_offset : end - spec.head_offset] = words[begin - offset : end - offset]
