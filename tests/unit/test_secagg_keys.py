"""Every key, digest and statement, derived once more from the reference with hashlib and hmac only."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from secagg_world import MODEL, PLAN, journey, name_of, names

from unisono.base.errors import Corrupt
from unisono.crypto.keys import KemKey
from unisono.crypto.shamir import PRIME
from unisono.secagg import client as c
from unisono.secagg.shared.keys import Lane, Vault
from unisono.secagg.shared.messages import Agree, Answer, Deal, Share, Upload
from unisono.secagg.shared.roster import Entry

TRIP = journey()
SHARED = TRIP.state(c.Shared)
FRAME = SHARED.frame
CTX = FRAME.ctx
LAST_NONCE = bytes(11) + b"\1"  # of a message of one segment: constant, as every key has one message


def enc(*fields: bytes | str | int) -> bytes:
    out = b""
    for field in fields:
        match field:
            case int():
                raw = field.to_bytes(8, "big")
            case str():
                raw = field.encode()
            case _:
                raw = field
        out += len(raw).to_bytes(8, "big") + raw
    return out


def sha(*fields: bytes | str | int) -> bytes:
    return hashlib.sha256(enc(*fields)).digest()


def hkdf(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 for 32 bytes, salted with ctx."""
    extracted = hmac.digest(CTX, secret, "sha256")
    return hmac.digest(extracted, info + b"\1", "sha256")


def dh(private: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def entry(number: int) -> Entry:
    return FRAME.roster.entry(number)


def signed_by(number: int, signature: bytes, *fields: bytes | str | int) -> None:
    message = enc("unisono/secagg/1", *fields)
    Ed25519PublicKey.from_public_bytes(entry(number).identity).verify(signature, message)


def test_context() -> None:
    setup = SHARED.frame.setup
    pins = sorted((pin.name, pin.key) for pin in setup.pins)
    manifest = sha("manifest", *(enc(name, key) for name, key in pins)).hex()
    ctx0 = sha("ctx0", "r-0001", 1, 1, PLAN, manifest)
    assert all(entry(n).ctx0 == ctx0 for n in range(1, 6))
    root = sha(*(entry(n).encode() for n in range(1, 6)))
    spec = hashlib.sha256(FRAME.spec.encode()).digest()
    assert sha("ctx", ctx0, bytes.fromhex(MODEL), spec, root) == CTX


def test_statements() -> None:
    for number in range(1, 5):
        name, one = name_of(number), entry(number)
        keys = enc(one.identity, one.c, one.ec, one.s, one.es)
        signed_by(number, one.signature, "advertise", one.ctx0, name, keys)
        signed_by(number, TRIP.said(Share, name).signature, "share", CTX, number)
        upload = TRIP.said(Upload, name)
        u1 = enc(1, 2, 3, 4, 5)
        signed_by(number, upload.signature, "upload", CTX, u1, 40, upload.digest)
        u2 = enc(*(enc(n, TRIP.said(Upload, name_of(n)).digest) for n in range(1, 5)))
        signed_by(number, TRIP.said(Agree, name).signature, "agree", CTX, u1, u2)


def test_parcels_and_vault() -> None:
    """Site 1 opens what site 2 sent to it; its own vault opens with the secret that was dealt out."""
    dealt = TRIP.sent(Deal).parcels[0]
    assert dealt.sender == 2
    parcel, keys = dealt.parcel, SHARED.keys
    zs = KemKey.from_bytes(keys.ec).decapsulate(parcel.share_kem)
    key = hkdf(dh(keys.c, entry(2).c) + zs, enc("share", 2, 1))
    aad = enc(CTX, 2, 1, sha(parcel.share_kem, parcel.mask_kem))
    plain = AESGCM(key).decrypt(LAST_NONCE, parcel.box, aad)
    held = next(h for h in TRIP.state(c.Ready).held if h.owner == 2)
    assert plain == held.b + held.v
    answered = [TRIP.said(Answer, name).vaults[0] for name in names(4)]
    assert [opened.number for opened in answered] == [5] * 4
    v = interpolate({n: opened.share for n, opened in enumerate(answered, 1)}, 3)
    vault = TRIP.said(Share, name_of(5)).vault
    inside = AESGCM(hkdf(v, enc("vault"))).decrypt(LAST_NONCE, vault, enc(CTX, 5))
    assert len(inside) == 32 + 64 + 4 * 32
    assert len(vault) == Vault.length(5)
    assert X25519PrivateKey.from_private_bytes(inside[:32]).public_key().public_bytes_raw() == entry(5).s
    assert KemKey.from_bytes(inside[32:96]).public == entry(5).es


def interpolate(shares: dict[int, bytes], t: int) -> bytes:
    """f(0) from t points, the slow way."""
    xs = sorted(shares)[:t]
    total = 0
    for x in xs:
        weight = 1
        for other in xs:
            if other != x:
                weight = weight * other * pow(other - x, -1, PRIME) % PRIME
        total += weight * int.from_bytes(shares[x], "big")
    return (total % PRIME).to_bytes(32, "big")


def test_masks_and_commitment() -> None:
    assert TRIP.said(Share, name_of(1)).commitment == sha("b", CTX, SHARED.b)
    own, *pairs = TRIP.state(c.Ready).masks
    assert (own.key, own.sign) == (hkdf(SHARED.b, enc("self")), 1)
    kem = KemKey.from_bytes(SHARED.keys.es)
    for dealt, made, mask in zip(TRIP.sent(Deal).parcels, SHARED.pairs, pairs, strict=True):
        theirs = kem.decapsulate(dealt.parcel.mask_kem)
        shared = dh(SHARED.keys.s, entry(dealt.sender).s)
        assert mask.key == hkdf(shared + made.mask + theirs, enc("mask", 1, dealt.sender))
        assert mask.sign == 1  # site 1 has the lowest number, and adds


def test_a_number_that_is_no_share_does_not_open() -> None:
    lane = Lane(CTX, 1, 2, b"kem", b"other kem")
    good, high = bytes(33), PRIME.to_bytes(33, "big")
    secret = bytes(32)
    assert lane.open(secret, lane.seal(secret, (good, good))) == (good, good)
    for pair in ((good, high), (high, good), (good[1:], good)):
        with pytest.raises(Corrupt, match="a share is not 33 bytes"):
            lane.open(secret, lane.seal(secret, pair))
