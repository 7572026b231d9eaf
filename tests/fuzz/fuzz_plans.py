"""What people write in files: plans, policies, both configurations; and the canonical bytes of a plan."""

from collections.abc import Iterator
from pathlib import Path

from fuzz_target import Target, same

from unisono import plan as plans
from unisono.base.errors import BadConfiguration, BadMessage
from unisono.base.units import bytes_per_second, seconds, show_bytes, show_seconds
from unisono.client import policy
from unisono.client.admin import documents
from unisono.client.config import Config as ClientConfig
from unisono.client.config import address
from unisono.server.config import Config as ServerConfig

ROOT = Path(__file__).parents[2]
PLAN = plans.parse(b'task = "x"\n[rounds]\ncount = 3\n')


def _plan(data: bytes) -> None:
    plan = plans.parse(data)
    travelling = plans.canonical(plan)
    again = plans.from_canonical(travelling)
    same(again, plan)
    same(plans.canonical(again), travelling)
    plans.check(again)


def _plan_seeds() -> Iterator[bytes]:
    for path in sorted(ROOT.glob("examples/*/*.toml")):
        yield path.read_bytes()
    yield b'task = "x"\nseed = 7\n[stop]\nmetric = "loss"\ndirection = "min"\n[task_parameters]\nrate = 0.5\n'
    yield b'task = "x"\n[aggregation]\nstrategy = "fedadam"\n[codec]\nlanes = 12\n'


def _canonical(data: bytes) -> None:
    plan = plans.from_canonical(data)
    travelling = plans.canonical(plan)
    same(plans.canonical(plans.from_canonical(travelling)), travelling)
    plans.check(plan)


def _policy(data: bytes) -> None:
    found = policy.parse(data)
    assert found.span is None or str(found.span)


def _policy_seeds() -> Iterator[bytes]:
    yield b'protections = ["secagg"]\ntasks = ["x"]\nhours = "20:00-06:00"\nmin_cohort = 3\napprove = "ask"\n'


def _client(data: bytes) -> None:
    found = ClientConfig.load(data)
    same(address(found.coordinator), found.coordinator)


def _coordinator(data: bytes) -> None:
    found = ServerConfig.load(data)
    assert 0 <= found.port < 65_536


def _units(data: bytes) -> None:
    text = data.decode("latin-1")
    for read, show in ((seconds, show_seconds), (bytes_per_second, show_bytes)):
        try:
            value = read(text)
        except BadConfiguration as error:
            refusal = error
        else:
            assert value > 0
            assert show(value)
            return
    raise refusal


_KINDS = (
    documents.Run, documents.Runs, documents.Models, documents.Clients, documents.Tokens, documents.Health,
    documents.PlanCheck, documents.Started,
)  # fmt: skip


def _document(data: bytes) -> None:
    documents.read(data[1:], _KINDS[(data[0] if data else 0) % len(_KINDS)])


def _document_seeds() -> Iterator[bytes]:
    yield (
        b"\0"
        + b'{"id":"r-0001","state":"running","rounds":[{"round":1,"metrics":{"loss":0.5}}],'
        + b'"status":{"stage":"waiting"}}'
    )
    yield b"\5" + b'{"status":"ok","federation":"cardio","software":"0.1.0","wall":1.5,"problems":[]}'


BAD = (BadConfiguration,)
TARGETS = (
    Target("plan_toml", _plan, _plan_seeds, BAD),
    Target("plan_canonical", _canonical, lambda: (plans.canonical(PLAN),), BAD),
    Target("policy_toml", _policy, _policy_seeds, BAD),
    Target("client_toml", _client, lambda: (b'coordinator = "a.example:8443"\n[tasks]\nx = "m:C"\n',), BAD),
    Target(
        "coordinator_toml",
        _coordinator,
        lambda: (b'hosts = ["a.example"]\nport = 8443\nclient_certificate_life = "30d"\n',),
        BAD,
    ),
    Target("units", _units, lambda: (b"24h", b"20Mbit", b"2MB/s"), BAD, 64),
    Target("document", _document, _document_seeds, (BadMessage,)),
)
