"""The keys of the codec's random bits: how a client rounds, and the signs of the rotation.

They are no secret (knowing how one's own rounding fell tells nothing beyond the sum) but must not
depend on attempt or run: a repeated attempt, and a repeated run of the same plan with the same clients,
give the same vector (reference 5.1).
"""

from unisono.base.ids import Digest
from unisono.crypto.kdf import encode, hkdf

LABEL = "unisono/rounding/1"
SIGNS = "unisono/rotation/1"


def rounding_stream(seed: int | bytes, round_number: int, client: str, model: Digest) -> bytes:
    """Return the key of the AES stream whose 32-bit little-endian words round this client's vector.

    Word k belongs to coordinate k, parts one after another (`Spec.start`).  `seed` is the plan's, or a
    secret of the site where the plan has none.
    """
    secret = seed if isinstance(seed, bytes) else encode(seed)
    return hkdf(secret, salt=encode(model), info=encode(LABEL, round_number, client))


def rotation_stream(seed: int, round_number: int, plan: Digest) -> bytes:
    """Return the key of the AES stream of signs: one for all clients of a round, known to everybody.

    Word k, as above, belongs to coordinate k (`Rotation`).
    """
    return hkdf(encode(seed), salt=encode(plan), info=encode(SIGNS, round_number))
