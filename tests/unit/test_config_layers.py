"""Settings of both processes: who wins, and whose mistake it was."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisono.base.errors import BadConfiguration
from unisono.client.config import Config as ClientConfig
from unisono.client.config import address
from unisono.server.config import Config as ServerConfig

DAY = 86_400


def test_flags_win_over_the_environment_over_the_file_over_defaults() -> None:
    data = b'port = 1\nhost = "file"\nlog_level = "debug"\n'
    variables = {"UNISONO_PORT": "2", "UNISONO_HOST": "variable", "PATH": "/bin", "UNISONO_ELSE": "1"}
    read = ServerConfig.load(data, "c.toml", variables, {"port": 3, "host": None})
    assert (read.port, read.host, read.log_level, read.long_poll_seconds) == (3, "variable", "debug", 25.0)


def test_the_coordinator_s_defaults() -> None:
    read = ServerConfig.load()
    assert (read.host, read.port, read.max_concurrent_rpcs) == ("0.0.0.0", 8443, 4096)  # noqa: S104
    assert (read.client_certificate_life, read.server_certificate_life) == (30 * DAY, 90 * DAY)


def test_values_of_the_environment_have_the_types_of_the_file() -> None:
    variables = {
        "UNISONO_HOSTS": "fl.example.org, 10.0.0.1",
        "UNISONO_LONG_POLL_SECONDS": "2.5",
        "UNISONO_CLIENT_CERTIFICATE_LIFE": "90s",
        "UNISONO_SHUTDOWN_SECONDS": "1",
    }
    read = ServerConfig.load(environment=variables)
    assert read.hosts == ("fl.example.org", "10.0.0.1")
    assert (read.long_poll_seconds, read.client_certificate_life, read.shutdown_seconds) == (2.5, 90.0, 1.0)


@pytest.mark.parametrize(
    ("data", "variables", "flags", "lines"),
    [
        (b"prot = 1", {}, {}, 'c.toml: prot is not a known key\n  line 1; did you mean "port"?'),
        (b'port = "8443"', {}, {}, 'c.toml: port must be a whole number, not "8443"\n  line 1'),
        (b"port = 1", {"UNISONO_PORT": "x"}, {}, 'environment: UNISONO_PORT must be a whole number, not "x"'),
        (b"", {"UNISONO_PORT": "1\nhost = 2"}, {}, "environment: UNISONO_PORT must be a whole number, not "),
        (b"port = 1", {"UNISONO_PORT": "2"}, {"port": 70_000}, "--port must be at most 65535, not 70000"),
        (
            b'client_certificate_life = "30x"',
            {},
            {},
            'c.toml: client_certificate_life must be a duration such as "90s", "15m", "24h" or "30d", '
            'not "30x"\n  line 1',
        ),
        (
            b"server_certificate_life = true",
            {},
            {},
            "c.toml: server_certificate_life must be a number, not true",
        ),
        (b'hosts = ["a b"]', {}, {}, "c.toml: hosts must hold names or addresses"),
        (b"log_level = 'dbug'", {}, {}, 'c.toml: log_level must be "debug", "info", "warning" or "error"'),
        (b"a = ", {}, {}, "c.toml: not valid TOML: "),
    ],
)
def test_a_mistake_names_its_source(
    data: bytes, variables: dict[str, str], flags: dict[str, object], lines: str
) -> None:
    with pytest.raises(BadConfiguration) as caught:
        ServerConfig.load(data, "c.toml", variables, flags)
    assert str(caught.value).startswith(lines)
    assert len(str(caught.value).splitlines()) <= 3


def test_tasks_given_as_flags_add_to_those_of_the_file() -> None:
    data = b'coordinator = "fl.example.org"\n[tasks]\na = "m:A"\nb = "m:B"\n'
    read = ClientConfig.load(data, flags={"tasks": {"b": "dir/t.py:B", "c": "m.n:C"}, "threads": 2})
    assert read.tasks == {"a": "m:A", "b": "dir/t.py:B", "c": "m.n:C"}
    assert (read.coordinator, read.threads, read.trainer_idle_seconds) == ("fl.example.org:8443", 2, 600.0)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b'[tasks]\nx = "module"', '[tasks] must map x to "module:Class" or "file.py:Class", not "module"'),
        (b'[tasks]\n"X Y" = "m:C"', "[tasks] must name tasks in lower-case letters"),
        (b"[tasks]\nx = 1", "[tasks] x must be text in quotes, not 1\n  line 2"),
        (b"[task]\n", "[task] is not a known section\n  line 1; did you mean [tasks]?"),
        (
            b'coordinator = "a b"',
            'coordinator must be a coordinator such as "fl.example.org:8443", not "a b"',
        ),
        (b'coordinator = "a:99999"', "coordinator must be a coordinator such as"),
        (b'device = "gpu"', 'device must be auto, cpu, mps, cuda or cuda:N, not "gpu"'),
        (b"threads = 0", "threads must be at least 1, not 0"),
    ],
)
def test_a_client_s_mistakes(data: bytes, lines: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        ClientConfig.load(data)
    assert str(caught.value).startswith(f"client.toml: {lines}")


@pytest.mark.parametrize(
    ("text", "full"),
    [("a", "a:8443"), ("a.b:1", "a.b:1"), ("10.0.0.1:65535", "10.0.0.1:65535"), ("[::1]", "[::1]:8443")],
)
def test_addresses(text: str, full: str) -> None:
    assert address(text) == full


@pytest.mark.parametrize("text", ["", ":1", "a:", "a:0", "a:65536", "::1", "http://a", "a/b", "a:1:2", "a\n"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(BadConfiguration):
        address(text)


KEYS = st.sampled_from([*ClientConfig.model_fields, *ServerConfig.model_fields]) | st.text(max_size=4)
VALUES = st.sampled_from(
    ["1", "-1", "true", '"x"', "[]", "{}", "1.5", "nan", '["a"]', "{ a = 1 }", "07:32:00"]
)


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=3), st.dictionaries(KEYS, st.text(max_size=6), max_size=2))
def test_any_file_and_environment_give_settings_or_three_lines(
    rows: dict[str, str], variables: dict[str, str]
) -> None:
    data = "\n".join(f"{key} = {value}" for key, value in rows.items()).encode("utf-8", "replace")
    environment = {f"UNISONO_{key.upper()}": value for key, value in variables.items()}
    for model in (ClientConfig, ServerConfig):
        message = ""
        try:
            model.load(data, environment=environment)
        except BadConfiguration as error:
            message = str(error)
        assert len(message.splitlines()) <= 3
