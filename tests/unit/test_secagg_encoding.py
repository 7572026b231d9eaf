"""Every message and state has one encoding, and bad bytes are BadMessage and nothing else."""

import random
from dataclasses import fields, replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from secagg_world import Journey, header, identity, journey, names

from unisono.base.errors import BadMessage
from unisono.codec import Spec as Layout
from unisono.codec import SpecPart
from unisono.crypto import encode, sha256_hex
from unisono.secagg import client as c
from unisono.secagg import server as s
from unisono.secagg.shared.certificates import AbandonCertificate, AgreeCertificate
from unisono.secagg.shared.encoding import PROTOCOL, Coded, kind_of, split
from unisono.secagg.shared.messages import Closing, Complaint
from unisono.secagg.shared.roster import Entry, fingerprint
from unisono.secagg.shared.spec import Spec
from unisono.secagg.shared.terms import Terms


def everything(trip: Journey) -> list[Coded]:
    """One of each kind that is ever sent or saved."""
    book = trip.world.coordinator.stage.book
    revealed, uploaded = trip.state(c.Revealed), trip.state(c.Uploaded)
    abandoned, _ = (
        trip.state(c.Agreed)
        .abandon(Closing(revealed.frame.model), trip.world.sites[names(1)[0]].key)
        .after(lambda data: None)
    )
    sent = [type(m) for m in trip.down.values()]
    assert len(sent) == 4
    return [
        *trip.states.values(),
        *trip.stages.values(),
        *trip.down.values(),
        *(message for _, message in book.shares),
        *(message for _, message in book.uploads),
        *(message for _, message in book.answers),
        *book.entries,
        *map(s.Record.decode, trip.world.coordinator.ledger),
        abandoned,
        uploaded.release,
        book.setup,
        AgreeCertificate(book.ctx, book.u1, book.u2, book.certified),
        AbandonCertificate(book.ctx, ()),
        Complaint(3),
        book.roster.spec,
    ]


def test_encodings_are_canonical() -> None:
    found = everything(journey())
    kinds = {value.kind for value in found}
    assert len(kinds) == len({type(value) for value in found})
    for value in found:
        data = value.encode()
        again = type(value).decode(data)
        assert again == value
        assert again.encode() == data
        assert kind_of(data) == value.kind


def test_no_message_is_read_as_another() -> None:
    found = everything(journey())
    one_each = {type(value): value for value in found}
    for kind in one_each:
        for other, value in one_each.items():
            if other is not kind:
                with pytest.raises(BadMessage):
                    kind.decode(value.encode())


def smallest_of_each() -> list[Coded]:
    chosen: dict[type[Coded], Coded] = {}
    for value in everything(journey(4)):
        if type(value) not in chosen or len(value.encode()) < len(chosen[type(value)].encode()):
            chosen[type(value)] = value
    return list(chosen.values())


@pytest.mark.parametrize("value", smallest_of_each(), ids=lambda value: value.kind)
def test_altered_bytes_are_bad_messages_or_another_value(value: Coded) -> None:
    data = value.encode()
    rng = random.Random(1)  # noqa: S311
    for cut in (0, 1, 8, 20, len(data) - 1):
        with pytest.raises(BadMessage):
            type(value).decode(data[:cut])
    with pytest.raises(BadMessage):
        type(value).decode(data + b"\0")
    for _ in range(60):
        altered = bytearray(data)
        for _ in range(rng.choice((1, 1, 3))):
            altered[rng.randrange(len(altered))] ^= 1 << rng.randrange(8)
        try:
            read = type(value).decode(bytes(altered))
        except BadMessage:
            continue
        assert read.encode() == bytes(altered)


@given(st.binary(max_size=80))
def test_random_bytes_are_bad_messages(data: bytes) -> None:
    for read in (kind_of, split, c.decode_state):
        try:
            read(data)
        except BadMessage:
            continue
        assert read is split  # the only one that some random bytes are good for


@given(st.binary(max_size=200))
def test_random_bodies_are_bad_messages_or_canonical(body: bytes) -> None:
    for value in smallest_of_each()[:6]:
        data = encode(PROTOCOL, value.kind, body)
        assert data.startswith(header(value.kind))
        with pytest.raises(BadMessage):
            type(value).decode(data)


def test_a_key_has_one_spelling() -> None:
    """X25519 ignores the top bit and reduces mod p: a copied key could pass for another one."""
    entry = journey().said(Entry, names(1)[0])
    for spelling in (entry.c[:31] + bytes([entry.c[31] | 0x80]), (2**255 - 18).to_bytes(32, "little")):
        with pytest.raises(BadMessage, match="canonical"):
            replace(entry, c=spelling)


def test_unknown_kinds_and_sizes_are_named() -> None:
    with pytest.raises(BadMessage, match='"x" is no state'):
        c.decode_state(encode(PROTOCOL, "x", b""))
    with pytest.raises(BadMessage, match="same version"):
        kind_of(encode("unisono/secagg/2", "x", b""))
    with pytest.raises(BadMessage, match="at most 1048576"):
        Complaint.decode(encode(PROTOCOL, "complaint", bytes(1 << 20)))


def test_secrets_are_not_printed() -> None:
    trip = journey()
    shared, ready = trip.state(c.Shared), trip.state(c.Ready)
    pairs = [secret for pair in shared.pairs for secret in (pair.c, pair.s, pair.mask)]
    for value in (shared.b, shared.keys.s, shared.keys.ec, shared.own.v, *pairs):
        assert repr(value)[2:20] not in repr(shared)
    for mask in ready.masks:
        assert repr(mask.key)[2:20] not in repr(ready)


def test_a_spec_is_of_its_codec() -> None:
    layout = Layout(lanes=12, clients=4, parts=(SpecPart("model", 100, 1.0, True),), head=("one", "weight"))
    spec = Spec.of(layout, Terms.of(4, 0))
    assert spec.length == layout.bytes
    assert Layout.decode(spec.codec) == layout
    assert Spec.decode(spec.encode()) == spec
    with pytest.raises(BadMessage, match="for 4 clients does not fit 5"):
        Spec.of(layout, Terms.of(5, 0))


def test_every_field_of_the_spec_is_in_its_digest() -> None:
    layout = Layout(lanes=12, clients=4, parts=(SpecPart("model", 100, 1.0, True),), head=("one",))
    base = Spec.of(layout, Terms.of(4, 0))
    others = [
        Spec(base.codec + b" ", base.length, base.terms),
        Spec(base.codec, base.length + 8, base.terms),
        Spec(base.codec, base.length, Terms.of(4, 1)),
        Spec(base.codec, base.length, base.terms, ring="Z_2^32"),
        Spec(base.codec, base.length, base.terms, protection="he"),
    ]
    assert len(others) == len(fields(Spec))
    assert len({base.digest, *(spec.digest for spec in others)}) == 6


def test_fingerprints_are_those_of_certificates() -> None:
    """As `identity.spki_sha256` makes them from a certificate's DER."""
    key = identity("site-001")
    der = key.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert fingerprint(key.public) == sha256_hex(der)
