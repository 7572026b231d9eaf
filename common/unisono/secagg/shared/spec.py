"""What every client of an attempt must do alike.  Each computes it from plan and n, and compares."""

from dataclasses import dataclass
from functools import cached_property

from unisono.base.errors import BadMessage
from unisono.codec import Spec as Layout
from unisono.crypto.digest import sha256

from .encoding import Coded
from .terms import Terms

RING = "Z_2^64"


@dataclass(frozen=True)
class Spec(Coded, kind="spec", kept=True):
    """Nothing in it depends on context, roster or attempt: a repeated attempt sends the same vector."""

    codec: bytes  # codec.Spec, canonical: lanes, levels, bounds, head, parts
    length: int  # bytes of the vector
    terms: Terms
    ring: str = RING
    protection: str = "secagg"

    @classmethod
    def of(cls, layout: Layout, terms: Terms) -> "Spec":
        """Return the spec of this layout, which must be for as many clients.  Raises BadMessage."""
        if layout.clients != terms.clients:
            raise BadMessage(f"a codec for {layout.clients} clients does not fit {terms.clients}")
        return cls(layout.encode(), layout.bytes, terms)

    @cached_property
    def digest(self) -> bytes:
        return sha256(self.encode())
