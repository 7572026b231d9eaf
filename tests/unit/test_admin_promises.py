"""What `plan check` says of a protection is what coordinator and clients compute."""

import pytest

from unisono.base.errors import BadConfiguration
from unisono.client.admin.promises import packed, packing_words, promise_words, promised, terms_for
from unisono.plan import Plan, parse


def plan(mode: str = "secagg", more: str = "") -> Plan:
    return parse(f'task = "x"\n[protection]\nmode = "{mode}"\n{more}'.encode())


@pytest.mark.parametrize(
    ("clients", "more", "words"),
    [
        (3, "", "all 3 must upload, and any 2 of them stay; no client may conspire with the coordinator"),
        (4, "", "any 3 of 4 must stay; 1 may conspire with the coordinator"),
        (8, "", "any 6 of 8 must stay; 2 may conspire with the coordinator"),
        (8, "max_colluding = 0", "any 5 of 8 must stay; no client may conspire with the coordinator"),
        (8, "[cohort]\nmin_survivors = 7", "any 7 of 8 must upload, and any 6 of them stay; 2 may conspire"),
        (100, "", "any 67 of 100 must stay; 33 may conspire with the coordinator"),
    ],
)
def test_who_must_stay_and_who_may_conspire(clients: int, more: str, words: str) -> None:
    assert words in promise_words(terms_for(plan(more=more), clients))


def test_sealed_promises_none_of_that() -> None:
    assert terms_for(plan("sealed"), 1) is None
    assert "reads every single update" in promise_words(None)
    assert promised(plan("sealed"), None) == {"mode": "sealed"}
    assert packing_words(plan("sealed"), 3) == "  lanes     32 bits, 4 bytes a parameter"


@pytest.mark.parametrize(
    ("clients", "more", "why"),
    [
        (2, "", 'protection "secagg" takes 3 to 100 clients, not 2'),
        (101, "", 'protection "secagg" takes 3 to 100 clients, not 101'),
        (4, "max_colluding = 3", "with 4 clients no round can succeed: c = 3 colluding clients of n = 4"),
        (4, "[cohort]\nmin_survivors = 5", "with 4 clients no round can succeed: 5 survivors are asked for"),
    ],
)
def test_a_number_of_clients_that_can_have_no_round(clients: int, more: str, why: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        terms_for(plan(more=more), clients)
    assert str(caught.value).startswith(why)


def test_width_bytes_and_error_for_people_and_scripts() -> None:
    assert packing_words(plan(), 8) == (
        "  lanes     12 bits, 1.6 bytes a parameter, expected error 6.4e-05 of the mean update's square\n"
        "            21 bits, 2.67 bytes a parameter in round 1"
    )
    assert packing_words(plan(more="[codec]\nlanes = 21"), 8).count("21 bits") == 1
    assert packed(plan(), 8)["round_1"] == {
        "lanes": 21, "bytes_per_parameter": 8 / 3, "expected_error": None
    }  # fmt: skip
    assert promised(plan(), terms_for(plan(), 8)) == {
        "mode": "secagg", "clients": 8, "colluding": 2, "threshold": 6, "minimum": 6
    }  # fmt: skip
