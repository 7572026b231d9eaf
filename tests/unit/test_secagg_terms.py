"""The numbers, by brute force over all cohorts up to 40, on the code's own functions (reference 1.1)."""

from dataclasses import replace
from itertools import combinations

import pytest
from secagg_world import entropy_of, identity, name_of

from unisono.base.errors import Corrupt
from unisono.crypto import sha256
from unisono.crypto.shamir import combine, split
from unisono.secagg.shared.certificates import AbandonCertificate, AgreeCertificate
from unisono.secagg.shared.messages import Signatures
from unisono.secagg.shared.statements import Statement, abandon, agree
from unisono.secagg.shared.terms import Terms, closing, default_colluding, smallest, threshold

PAIRS = [(n, c) for n in range(3, 41) for c in range(n - 1)]


def honest_signers(signatures: int, colluding: int) -> int:
    return signatures - colluding


def test_there_are_as_many_pairs_as_in_the_reference() -> None:
    assert len(PAIRS) == 779


@pytest.mark.parametrize(("n", "c"), [(5, 1), (6, 0), (6, 2), (7, 3)])
def test_two_quorums_share_an_honest_client_by_enumeration(n: int, c: int) -> None:
    """All sets of q, c colluders who sign everything: two sets always share somebody honest."""
    colluders, q = set(range(c)), threshold(n, c)
    for one in combinations(range(n), q):
        for two in combinations(range(n), q):
            assert (set(one) & set(two)) - colluders


def test_no_two_certified_sets() -> None:
    """An honest client signs one set; c sign both: 2q signatures need 2q - c <= n."""
    for n, c in PAIRS:
        q = threshold(n, c)
        assert not any(a + b <= n - c for a in range(q - c, n) for b in range(q - c, n)), (n, c)


def test_no_client_with_both_kinds_of_shares() -> None:
    """An honest client gives one kind for each; c give both: t of each need 2(t - c) honest ones."""
    for n, c in PAIRS:
        for honest_selves in range(n - c + 1):
            both = honest_selves + c >= threshold(n, c) and (n - c - honest_selves) + c >= threshold(n, c)
            assert not both, (n, c)


def test_a_certified_set_has_two_honest_members() -> None:
    for n, c in PAIRS:
        assert threshold(n, c) <= n
        assert threshold(n, c) - c >= 2, (n, c)


def test_nothing_opens_after_an_abandon_certificate() -> None:
    """Whoever signed and is honest never reveals; the colluders reveal whatever they signed."""
    for n, c in PAIRS:
        assert 1 <= closing(n, c) <= n
        for colluders_who_signed in range(min(c, closing(n, c)) + 1):
            honest = closing(n, c) - colluders_who_signed
            assert n - honest < threshold(n, c), (n, c)


def signed(statement: Statement, numbers: range | tuple[int, ...]) -> Signatures:
    return tuple((number, statement.sign(identity(name_of(number)))) for number in numbers)


def public(number: int) -> bytes | None:
    return identity(name_of(number)).public


def check_certificates(n: int, c: int) -> None:
    """With real signatures: 1 to c sign everything, the honest rest once, divided as badly as can be."""
    terms, ctx, everybody = Terms.of(n, c), sha256(b"ctx"), tuple(range(1, n + 1))
    tally = tuple((number, sha256(bytes([number]))) for number in everybody)
    for first in {(n - c) // 2, terms.threshold - c, n - c}:
        half = c + min(first, n - c)
        held = []
        for u2, by in (
            (tally, range(1, half + 1)),
            (tally[: n - 1], (*range(1, c + 1), *range(half + 1, n))),
        ):
            statement = agree(ctx, everybody, u2)
            held.append(AgreeCertificate(ctx, everybody, u2, signed(statement, by)).holds(public, terms))
        assert held.count(True) <= 1
        assert held[0] == (half >= terms.threshold)
    closers = tuple(range(1, terms.closing + 1))  # as many of its own as it can, so the fewest honest ones
    certificate = AbandonCertificate(ctx, signed(abandon(ctx), closers))
    assert certificate.holds(public, terms)
    assert not replace(certificate, signatures=certificate.signatures[1:]).holds(public, terms)
    secret = sha256(b"secret")
    shares = dict(zip(everybody, split(secret, terms.threshold, n, entropy_of("shares")), strict=True))
    told = {number: shares[number] for number in everybody if number <= c or number not in closers}
    with pytest.raises(Corrupt, match="the secret needs"):
        combine(told, terms.threshold)


@pytest.mark.parametrize("n", [3, 4, 5, 7, 10])
def test_certificates_of_small_cohorts(n: int) -> None:
    for c in range(n - 1):
        check_certificates(n, c)


@pytest.mark.slow
def test_certificates_of_all_cohorts() -> None:
    for n, c in PAIRS:
        check_certificates(n, c)


def test_one_signature_less_would_not_close() -> None:
    for n, c in PAIRS:
        honest = closing(n, c) - 1 - c
        assert n - max(honest, 0) >= threshold(n, c), (n, c)


def test_the_living_can_close() -> None:
    """Any t living clients suffice, t - 1 where n + c is even."""
    for n, c in PAIRS:
        assert closing(n, c) == threshold(n, c) - (1 if (n + c) % 2 == 0 else 0)


def test_a_small_u1_isolates_a_victim_and_m_forbids_it() -> None:
    """A victim alone with c colluders in its U1 has no mask that they do not know."""
    for n, c in PAIRS:
        assert smallest(n, c) >= c + 2
        assert smallest(n, c) >= threshold(n, c)
    # unchecked it would work without the victim's own signature wherever the others are a quorum
    assert [(n, c) for n, c in PAIRS if n - 1 < threshold(n, c)] == [(n, n - 2) for n in range(3, 41)]


@pytest.mark.parametrize(
    ("n", "c", "t"),
    [
        (3, 0, 2),
        (3, 1, 3),
        (5, 0, 3),
        (8, 1, 5),
        (8, 2, 6),
        (10, 0, 6),
        (20, 4, 13),
        (100, 33, 67),
        (100, 20, 61),
    ],
)
def test_the_table_of_the_reference(n: int, c: int, t: int) -> None:
    assert threshold(n, c) == t


def test_the_default_is_just_below_a_third() -> None:
    assert [default_colluding(n) for n in (3, 4, 6, 7, 10, 100)] == [0, 1, 1, 2, 3, 33]


def test_problems_are_named() -> None:
    good = Terms.of(8, 2)
    assert (good.threshold, good.minimum, good.closing, good.problem(2, 6)) == (6, 6, 5, "")
    assert "policy max_colluding = 3" in good.problem(3)
    assert "at most 6" in Terms(8, 7, 8, 9).problem()
    assert "ask for 6" in Terms(8, 2, 5, 6).problem()
    assert "at least 6" in Terms(8, 2, 6, 5).problem()
    assert "at least 7" in good.problem(min_cohort=7)
    assert Terms.of(3, 0).minimum == 3  # by t alone two would do
