"""Well-formed messages of every method with the worst values: numbers at their ends, NaN, names of others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from federation_world import MANIFEST, MODEL, PLAN
from fuzz_services import BROKEN, METHODS, SERVICES, loop
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unisono import plan as plans
from unisono.crypto import SigningKey, TlsKey, sha256
from unisono.identity import request

if TYPE_CHECKING:
    from google.protobuf.message import Message

TEXTS = (
    "",
    "r-0001",
    "r-0002",
    "r-9999",
    "a",
    "b",
    "z",
    "operator",
    "x" * 300,
    "\x1b[2J",
    "é\n",
    "../../a",
    "hours 24",
)
BYTES = (
    b"", sha256(MODEL), bytes(32), bytes(31), b"\xff" * 64, MANIFEST.encode(), plans.canonical(PLAN), MODEL,
    request(TlsKey.generate()), request(SigningKey.from_bytes(bytes(range(32)))), b"x" * 3000,
)  # fmt: skip
FLOATS = (0.0, -1.0, 1e-300, 25.0, 1e308, math.inf, -math.inf, math.nan)
WHOLE = (0, 1, 2, 7, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
_BITS = {
    FieldDescriptor.CPPTYPE_INT32: 31,
    FieldDescriptor.CPPTYPE_UINT32: 32,
    FieldDescriptor.CPPTYPE_INT64: 63,
}


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return st.sampled_from(BYTES if field.type == FieldDescriptor.TYPE_BYTES else TEXTS)
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return st.sampled_from(FLOATS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_ENUM:
            return st.integers(0, 9)
        case FieldDescriptor.CPPTYPE_MESSAGE:
            assert field.message_type is not None
            return messages(field.message_type)
        case kind:
            most = 2 ** _BITS.get(kind, 64)
            return st.sampled_from([whole for whole in WHOLE if whole < most])


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor) -> Message:
    made: Any = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if not draw(st.integers(0, 4)):
            continue
        if field.is_repeated:
            getattr(made, field.name).extend(draw(st.lists(values(field), max_size=3)))
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            getattr(made, field.name).CopyFrom(draw(values(field)))
        else:
            setattr(made, field.name, draw(values(field)))
    return made  # type: ignore[no-any-return]


INPUTS = {
    f"/unisono.wire.v1.{service}/{method.name}": method.input_type
    for service, module in SERVICES.items()
    for method in module.DESCRIPTOR.services_by_name[service].methods
}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.rpartition("/")[2])
def test_the_worst_values_are_answered(method: str) -> None:
    @settings(max_examples=60, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(messages(INPUTS[method]), st.integers(0, 3))
    def tried(message: Message, who: int) -> None:
        world = loop().fresh()
        world.calls += 1
        data = message.SerializeToString()
        _, context = loop().runner.run(world.call(method, [data], world.people[who]))
        assert context.status not in BROKEN, f"{context.status} {context.text}"

    tried()
