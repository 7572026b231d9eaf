"""What a person is told about a file that is wrong: the file, the key, the line, what to write instead."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from unisono.base.errors import BadConfiguration
from unisono.plan.lines import locate
from unisono.plan.reading import MAX_BYTES, read_toml


class _Box(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    count: Annotated[int, Field(ge=1)] = 1
    wait: Literal["all", "quorum"] = "all"


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    task: str
    rate: float = 1.0
    names: Annotated[tuple[str, ...], Field(strict=False)] = ()
    on: bool = False
    rounds: _Box = _Box()


def told(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(BadConfiguration) as caught:
        read_toml(data, "f.toml", _File)
    return str(caught.value).split("\n")


def test_a_good_file_is_read() -> None:
    read = read_toml(
        b'\xef\xbb\xbftask = "x"\r\nrate = 2\r\nnames = ["a"]\r\n[rounds]\r\ncount = 3', "f", _File
    )
    assert read == _File(task="x", rate=2.0, names=("a",), rounds=_Box(count=3))
    assert isinstance(read.rate, float)


IN_FILE = {
    "[rounds]\ncuont = 3": '[rounds] cuont is not a known key|line 3; did you mean "count"?',
    "[ruonds]": "[ruonds] is not a known section|line 2; did you mean [rounds]?",
    'wait = "all"': "wait is not a known key|line 2; it belongs in [rounds]",
    "zzz = 1": "zzz is not a known key|line 2; known here: task, rate, names, on",
    "rounds = 3": "[rounds] must be a table, not 3|line 2",
    "[rounds]\ncount = 0": "[rounds] count must be at least 1, not 0|line 3",
    "[rounds]\ncount = true": "[rounds] count must be a whole number, not true|line 3",
    '[rounds]\ncount = "20"': '[rounds] count must be a whole number, not "20"|line 3',
    "[rounds]\n\ncount = 2.0": "[rounds] count must be a whole number, not 2.0|line 4",
    "rounds = { count = 2.0 }": "[rounds] count must be a whole number, not 2.0|line 2",
    '[rounds]\nwait = "qorum"': (
        '[rounds] wait must be "all" or "quorum", not "qorum"|line 3; did you mean "quorum"?'
    ),
    "rate = inf": "rate must be a finite number, not inf|line 2",
    "rate = true": "rate must be a number, not true|line 2",
    'names = [\n  "a",\n  1,\n]': "names, item 2 must be text in quotes, not 1|line 2",
    'names = "a"': 'names must be an array such as ["a", "b"], not "a"|line 2',
    "on = 1": "on must be true or false, not 1|line 2",
    "rate 2": "not valid TOML: expected '=' after a key in a key/value pair|line 2, column 6",
    "\nnames = [": "not valid TOML: invalid value|line 3",
    'task = "y"': "not valid TOML: cannot overwrite a value|line 2",
}
WHOLE = {
    b'taks = "x"': 'taks is not a known key|line 1; did you mean "task"?|1 more mistake after this one',
    b"rate = 2.5": "task is missing|add task = ...",
    b"task = 2026-11-21": "task must be text in quotes, not a date or time|line 1",
    b'task = "x"\n# \xff\n': "not UTF-8 text|line 2; save the file as UTF-8",
    b"a = " + b"[" * 5000: "not valid TOML: nested too deeply",
    b"#" * (MAX_BYTES + 1): f"{MAX_BYTES + 1} bytes long; at most {MAX_BYTES} are allowed",
}


@pytest.mark.parametrize("text", IN_FILE)
def test_what_is_told(text: str) -> None:
    assert told(f'task = "x"\n{text}') == ("f.toml: " + IN_FILE[text].replace("|", "\n  ")).split("\n")


@pytest.mark.parametrize("data", WHOLE, ids=range(len(WHOLE)))
def test_what_is_told_of_a_whole_file(data: bytes) -> None:
    assert told(data) == ("f.toml: " + WHOLE[data].replace("|", "\n  ")).split("\n")


def test_a_value_cannot_break_the_lines() -> None:
    assert len(told('task = "x"\n"a\\nb\\u2028c" = 1\n')) == 2
    assert len(told('task = "x"\n[rounds]\nwait = """a\n b\nc\nd"""\n')) == 2
    assert len(told('task = "x"\n[rounds]\nwait = "' + "y" * 10_000 + '"\n')[0]) < 120


def test_a_number_of_ten_thousand_digits_is_not_a_crash() -> None:
    assert "not valid TOML" in told("rate = " + "9" * 10_000)[0]
    assert "a number of 40000 bits" in told('task = "x"\n[rounds]\nwait = 0x' + "f" * 10_000)[0]


def test_lines_of_keys_survive_strings_arrays_and_tables_that_span_lines() -> None:
    text = '''a = 1 # [no]
b = """
[not.a.section]
c = 1
"""
d = [ # [x]
  "]", [1,
  2], { e = 3 },
]
"q u" = 'x = "'
[s . "t"]
f.g = { h = 1 }
[[u]]
i = 2026-11-21T10:00:00Z
[[u]]
i = 1
'''
    found = locate(text)
    assert found == {
        ("a",): 1, ("b",): 2, ("d",): 6, ("q u",): 10, ("s",): 11, ("s", "t"): 11,
        ("s", "t", "f"): 12, ("s", "t", "f", "g"): 12, ("u",): 13, ("u", "i"): 14,
    }  # fmt: skip


def test_a_key_of_many_dots_does_not_cost_its_square() -> None:
    assert len(locate(".".join("a" for _ in range(100_000)) + " = 1")) == 4
