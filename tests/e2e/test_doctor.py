"""`unisono doctor` names what is wrong: real sockets, real TLS, certificates of our own identity package."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import asyncio
import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from federation_world import Federation, Play, serving
from tls_world import CA, DAY, NOW, Gateway, Shifted, ask, coordinator, forged, listening, site, tls

from unisono.cli import main
from unisono.cli.doctor import examined
from unisono.client.runtime.files import write_private
from unisono.crypto import TlsKey
from unisono.identity import Authority, request
from unisono.wire.v1 import admin_pb2

if TYPE_CHECKING:
    from unisono.probe import Ask

Check = dict[str, str]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies of the machine that runs the tests are none of their business."""
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "site"
    made.mkdir()
    return made


class Doctor:
    """Runs the command's own function and reads what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, asked: Ask) -> tuple[int, dict[str, Check]]:
        """Return the exit code, and by name of check the worst that was said of it."""
        code = examined(asked, as_json=True)
        document = json.loads(self._capsys.readouterr().out)
        assert document["code"] == code
        found: dict[str, Check] = {}
        for subject in document["subjects"]:
            for check in subject["checks"]:
                assert check["advice"] or check["status"] == "ok", check
                if found.get(check["check"], {"status": "ok"})["status"] != "failure":
                    found[check["check"]] = check
        return code, found


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(capsys)


def failed(found: Mapping[str, Check]) -> list[str]:
    return [name for name, check in found.items() if check["status"] == "failure"]


def test_wrong_host(doctor: Doctor, folder: Path, tmp_path: Path) -> None:
    with listening(coordinator(tmp_path, ["fl.example.org"])) as port:
        code, found = doctor(ask(site(folder, f"localhost:{port}")))
    assert (code, failed(found)) == (5, ["TLS"])
    assert found["TLS"]["words"] == "the coordinator's certificate is for fl.example.org, not for localhost"
    assert "added to hosts" in found["TLS"]["advice"]


def test_expired_certificate_of_the_coordinator(doctor: Doctor, folder: Path, tmp_path: Path) -> None:
    with listening(coordinator(tmp_path, ["localhost"], NOW - 91 * DAY)) as port:
        code, found = doctor(ask(site(folder, f"localhost:{port}")))
    assert (code, failed(found)) == (5, ["TLS"])
    assert "the coordinator's certificate expired on" in found["TLS"]["words"]


def test_expired_certificate_of_the_site(doctor: Doctor, folder: Path, tmp_path: Path) -> None:
    with listening(coordinator(tmp_path, ["localhost"])) as port:
        code, found = doctor(ask(site(folder, f"localhost:{port}", NOW - 31 * DAY)))
    assert (code, failed(found)) == (4, ["certificate"])
    assert "expired on" in found["certificate"]["words"]
    assert "new token" in found["certificate"]["advice"]
    assert found["TLS"]["status"] == "ok"  # and nothing else is wrong


def test_wrong_ca(doctor: Doctor, folder: Path, tmp_path: Path) -> None:
    other = Authority.create("neuro", NOW)
    with listening(coordinator(tmp_path, ["localhost"], ca=other)) as port:
        code, found = doctor(ask(site(folder, f"localhost:{port}")))
    assert (code, failed(found)) == (4, ["TLS"])
    assert "not from this federation's CA" in found["TLS"]["words"]
    assert 'federation "neuro"' in found["TLS"]["advice"]


def test_a_proxy_that_inspects_tls(doctor: Doctor, folder: Path, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    with listening(gateway) as port:
        asked = ask(site(folder, "fl.example.org:8443"), https_proxy=f"http://127.0.0.1:{port}")
        code, found = doctor(asked)
    assert (code, failed(found)) == (5, ["TLS"])
    assert found["proxy"]["words"] == f"goes through 127.0.0.1:{port} (https_proxy)"
    assert 'inspects TLS stands in between (issuer "ACME Web Gateway")' in found["TLS"]["advice"]
    assert set(gateway.asked) == {"fl.example.org:8443"}


def test_an_inspecting_gateway_without_a_proxy_setting(doctor: Doctor, folder: Path, tmp_path: Path) -> None:
    with listening(tls(tmp_path, *forged("ACME Web Gateway", "localhost"))) as port:
        code, found = doctor(ask(site(folder, f"localhost:{port}")))
    assert (code, failed(found)) == (5, ["TLS"])
    assert 'issuer "ACME Web Gateway"' in found["TLS"]["advice"]


def test_a_proxy_that_wants_a_login(doctor: Doctor, folder: Path, tmp_path: Path) -> None:
    with listening(Gateway(tmp_path, status="407 Proxy Authentication Required")) as port:
        asked = ask(site(folder, "fl.example.org:8443"), https_proxy=f"http://127.0.0.1:{port}")
        code, found = doctor(asked)
    assert (code, failed(found)) == (5, ["tunnel"])
    assert "407 Proxy Authentication Required" in found["tunnel"]["words"]
    assert "USER:PASSWORD" in found["tunnel"]["advice"]


def test_a_proxy_in_capital_letters_is_pointed_out(doctor: Doctor, folder: Path) -> None:
    _, found = doctor(ask(site(folder, "localhost:1"), HTTPS_PROXY="http://127.0.0.1:1"))
    assert found["proxy"]["words"] == "HTTPS_PROXY is set, but gRPC reads https_proxy only"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    if os.geteuid() != 0:
        pytest.skip("NOT RUN: a small tmpfs needs root, so nobody saw what a full disk looks like")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)]
    done = subprocess.run(mount, check=False)  # noqa: S603 - nobody else's words
    if done.returncode:
        pytest.skip("NOT RUN: this machine mounts no tmpfs, so nobody saw what a full disk looks like")
    yield place
    subprocess.run(["umount", str(place)], check=True)  # noqa: S603, S607


def test_full_disk(doctor: Doctor, small_disk: Path) -> None:
    folder = site(small_disk / "site", "localhost:1")
    (folder / "filler").write_bytes(bytes(1_900_000))
    code, found = doctor(ask(folder))
    assert code == 1
    assert found["disk"]["status"] == "failure"
    assert "1.0 MB cannot be written: No space left on device" in found["disk"]["words"]
    assert "make room" in found["disk"]["advice"]
    assert not list(folder.glob(".doctor*"))


async def examined_beside(federation: Federation, doctor: Doctor, asked: Ask) -> tuple[int, dict[str, Check]]:
    return await asyncio.to_thread(doctor, replace(asked, address=f"localhost:{federation.port}"))


def written(federation: Federation, folder: Path, key: TlsKey, certificate: bytes) -> Path:
    site(folder, f"localhost:{federation.port}")
    (folder / "ca.pem").write_bytes(federation.hall.authority.certificate_pem)
    write_private(folder / "tls.key", key.to_pem())
    write_private(folder / "tls.pem", certificate)
    return folder


@pytest.mark.parametrize(
    ("days", "side"), [(1.0, "ahead of"), (-1.0, "behind")], ids=["a-day-ahead", "a-day-behind"]
)
def test_clock_off_by_a_day(
    play: Play, path: Path, folder: Path, doctor: Doctor, days: float, side: str
) -> None:
    async def story() -> None:
        async with serving(path, life=90 * DAY) as federation:
            caller = await federation.client("hospital-b")
            made = written(federation, folder, caller.key, caller.certificate)
            code, found = await examined_beside(federation, doctor, ask(made, days * DAY))
        assert code
        if days > 0:  # everything is still valid: only the coordinator's own clock tells
            assert (code, failed(found)) == (1, ["clock"])
            assert re.search(rf"is 2[34] h \d+ m {side} the coordinator's", found["clock"]["words"])
        else:
            assert failed(found) == ["certificate", "CA", "TLS"]  # the federation is an hour old
            assert "not valid before" in found["certificate"]["words"]
            assert re.search(rf"is 2[34] h \d+ m {side}", found["TLS"]["advice"])

    play(story())


def test_all_is_well_and_a_running_client_keeps_its_session(
    play: Play, path: Path, folder: Path, doctor: Doctor
) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            caller = await federation.client("hospital-b")
            await caller.hello()
            before = federation.hall.presence.online()
            made = written(federation, folder, caller.key, caller.certificate)
            code, found = await examined_beside(federation, doctor, ask(made))
            assert (code, failed(found)) == (0, []), found
            assert found["our certificate"]["words"] == "accepted by the coordinator"
            assert 'knows hospital-b in "cardio"' in found["coordinator"]["words"]
            after = federation.hall.presence.online()
            assert {name: s.greeting for name, s in after.items()} == {
                name: s.greeting for name, s in before.items()
            }

    play(story())


def test_a_revoked_site(play: Play, path: Path, folder: Path, doctor: Doctor) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            caller = await federation.client("hospital-b")
            made = written(federation, folder, caller.key, caller.certificate)
            await federation.operator().operate.Revoke(admin_pb2.RevokeRequest(name="hospital-b", reason="x"))
            code, found = await examined_beside(federation, doctor, ask(made))
        assert (code, failed(found)) == (4, ["coordinator"])
        assert "was revoked (x)" in found["coordinator"]["words"]

    play(story())


def test_a_certificate_that_the_coordinator_refuses(
    play: Play, path: Path, folder: Path, doctor: Doctor
) -> None:
    """Ours is of another CA with the same name: the coordinator says so in an alert, gRPC to nobody."""

    async def story() -> None:
        async with serving(path) as federation:
            key, other = TlsKey.generate(), Authority.create("cardio", NOW)
            certificate = other.issue_tls(request(key), "client", "hospital-b", NOW, DAY)
            made = written(federation, folder, key, certificate)
            code, found = await examined_beside(federation, doctor, ask(made))
        assert code == 4
        assert failed(found) == ["certificate", "our certificate"]
        assert "also called" in found["certificate"]["words"]
        assert "the coordinator refuses it" in found["our certificate"]["words"]

    play(story())


def test_a_token_before_and_after_it_is_used(
    play: Play, path: Path, folder: Path, doctor: Doctor, tmp_path: Path
) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            request_ = admin_pb2.CreateTokenRequest(name="hospital-c", ttl_seconds=600, uses=1)
            text = (await federation.operator().operate.CreateToken(request_)).token
            asked = replace(ask(tmp_path / "nobody"), token=text)
            for _ in range(2):  # looking does not use it up
                code, found = await examined_beside(federation, doctor, asked)
                assert (code, failed(found)) == (0, []), found
                assert 'would let hospital-c into "cardio"' in found["coordinator"]["words"]
            late = replace(asked, clock=Shifted(DAY))
            code, found = await asyncio.to_thread(doctor, late)
            assert (code, failed(found)) == (4, ["token"])
            assert 'for "hospital-c" expired' in found["token"]["words"]
            await use(federation, text)
            code, found = await examined_beside(federation, doctor, asked)
            assert (code, failed(found)) == (4, ["coordinator"])
            assert "token used already" in found["coordinator"]["words"]

    play(story())


async def use(federation: Federation, text: str) -> None:
    from unisono.crypto import SigningKey, system_entropy  # noqa: PLC0415 - only here
    from unisono.identity import JoinToken  # noqa: PLC0415
    from unisono.wire.v1 import enrolment_pb2  # noqa: PLC0415

    token = JoinToken.decode(text)
    caller = federation.caller(token.key, token.certificate_pem)
    asked = enrolment_pb2.EnrolRequest(
        tls_csr=request(TlsKey.generate()), signing_csr=request(SigningKey.generate(system_entropy))
    )
    await caller.enrol.Enrol(asked)


def plain_http(connection: socket.socket) -> None:
    if connection.recv(65_536):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def silent(connection: socket.socket) -> None:
    connection.recv(65_536)


@pytest.mark.parametrize(
    ("serve", "words"),
    [(plain_http, "plain HTTP is spoken on that port, not TLS"), (silent, "the connection is c")],
    ids=["plain-http", "cut"],
)
def test_what_answers_is_not_tls(
    doctor: Doctor, folder: Path, serve: Callable[[socket.socket], None], words: str
) -> None:
    with listening(serve) as port:
        code, found = doctor(ask(site(folder, f"localhost:{port}")))
    assert (code, failed(found)) == (5, ["TLS"])
    assert found["TLS"]["words"].startswith(words)


def test_no_name_no_listener_no_http2(doctor: Doctor, folder: Path, tmp_path: Path) -> None:
    _, found = doctor(ask(site(folder, "no-such-host.invalid:8443")))
    assert failed(found) == ["name"]
    _, found = doctor(ask(site(folder, "localhost:1")))
    assert found["connection"]["words"] == "connection refused; nothing listens there"
    key = TlsKey.generate()
    certificate = CA.issue_server(request(key), ["localhost"], NOW)
    with listening(tls(tmp_path, key.to_pem(), certificate, alpn="http/1.1")) as port:
        _, found = doctor(ask(site(folder, f"localhost:{port}")))
    assert "does not speak HTTP/2" in found["TLS"]["words"]


def test_settings_that_cannot_be_read(doctor: Doctor, folder: Path) -> None:
    site(folder, "localhost:1")
    (folder / "client.toml").write_text('coordinater = "x"\n')
    code, found = doctor(ask(folder))
    assert (code, failed(found)) == (3, ["settings"])
    assert 'did you mean "coordinator"' in found["settings"]["advice"]


def test_the_coordinators_folder(doctor: Doctor, path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        toml = path / "coordinator" / "coordinator.toml"
        toml.write_text(
            f'hosts = ["fl.invalid"]\nport = {taken.getsockname()[1]}\nhost = "127.0.0.1"\nops_port = -1\n'
        )
        (path / "coordinator" / "ca.key").chmod(0o644)
        code, found = doctor(ask(path / "coordinator"))
    assert code == 3
    assert failed(found) == ["keys", "port"]
    assert "chmod 600" in found["keys"]["advice"]
    assert (found["name"]["status"], found["process"]["status"]) == ("warning", "warning")
    assert found["database"]["status"] == "ok"


def test_the_coordinators_clock_went_back(doctor: Doctor, path: Path) -> None:
    code, found = doctor(ask(path / "coordinator", -DAY))
    assert code
    assert re.search(r"2[34] h \d+ m behind what was written last", found["clock"]["words"])


def test_a_running_coordinator(play: Play, path: Path, doctor: Doctor) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            toml = path / "coordinator" / "coordinator.toml"
            toml.write_text(f'hosts = ["localhost"]\nport = {federation.port}\nhost = "127.0.0.1"\n')
            admin = path / "admin" / "admin.toml"
            admin.write_text(f'coordinator = "localhost:{federation.port}"\n')
            code, found = await asyncio.to_thread(doctor, ask(path))
        assert (code, failed(found)) == (0, []), found
        assert f"process {os.getpid()}" in found["process"]["words"]
        assert '"cardio" is ok' in found["coordinator"]["words"]

    play(story())


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--dir", str(tmp_path)]) == 3
    assert "nothing to examine" in capsys.readouterr().err


def test_people_read_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site(folder, "localhost:1")
    assert main(["doctor", "--dir", str(folder)]) == 5
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("site hospital-b")
    assert lines[-1].startswith("1 failure")
    assert all(
        line.split()[0] in {"ok", "warning", "failure"} or line.startswith(" " * 20) for line in lines[1:-1]
    )


def test_ordinary_commands_say_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """UX.md, "When something is wrong"."""
    admin = tmp_path / "admin"
    admin.mkdir()
    key = TlsKey.generate()
    (admin / "admin.key").write_bytes(key.to_pem())
    (admin / "admin.pem").write_bytes(CA.issue_tls(request(key), "admin", "operator", NOW, DAY))
    (admin / "ca.pem").write_bytes(CA.certificate_pem)
    with listening(tls(tmp_path, *forged("ACME Web Gateway", "localhost"))) as port:
        (admin / "admin.toml").write_text(f'coordinator = "localhost:{port}"\n')
        assert main(["run", "list", "--dir", str(tmp_path)]) == 5
    assert capsys.readouterr().err.splitlines() == [
        f"cannot reach localhost:{port}: the TLS certificate shown is not from this federation's CA",
        '  a proxy that inspects TLS stands in between (issuer "ACME Web Gateway"); '
        "ask for an exception for this host",
        "  unisono doctor shows each step",
    ]
