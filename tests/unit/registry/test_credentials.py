"""Who is asked for a password, what the passwords are, and who gets which."""

import base64
import hashlib
import ipaddress
import json

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import credentials
from registry.pod.nginx import PUSHERS, READERS, AuthMode
from tests.unit.support.engine import NAMESPACE, Recorder, run_component, run_program

SEEDS = st.text(min_size=1)
PRIVATE = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "fe80::/10",
    "fc00::/7",
    "::ffff:10.0.0.0/104",
]


@pytest.mark.parametrize("network", PRIVATE)
def test_the_first_and_the_last_address_of_a_private_network_are_private_and_those_beside_it_are_not(
    network: str,
) -> None:
    addresses = ipaddress.ip_network(network)
    assert credentials.is_private(str(addresses[0]))
    assert credentials.is_private(str(addresses[-1]))
    assert not credentials.is_private(str(addresses[0] - 1))
    assert not credentials.is_private(str(addresses[-1] + 1))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"])
def test_a_loopback_address_says_nothing_of_where_the_registry_is_reached(address: str) -> None:
    assert credentials.auth_mode("auto", ["10.0.0.1", address]) == "basic"


@given(st.ip_addresses())
def test_what_the_internet_routes_to_is_never_private(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if ip.is_global:
        assert not credentials.is_private(str(ip))
        assert credentials.auth_mode("auto", ["10.0.0.1", str(ip)]) == "basic"


@given(st.text())
def test_what_is_no_address_is_not_private(text: str) -> None:
    assert not credentials.is_private(f"{text}.example.com")


@given(st.lists(st.ip_addresses(v=4, network="10.0.0.0/8").map(str), min_size=1))
def test_only_where_every_address_is_private_pulls_are_open(addresses: list[str]) -> None:
    assert credentials.auth_mode("auto", addresses) == "push"
    assert credentials.auth_mode("auto", [*addresses, "lb.example.com"]) == "basic"
    assert credentials.auth_mode("auto", []) == "basic"
    assert credentials.auth_mode("basic", addresses) == "basic"
    assert credentials.auth_mode("push", ["198.51.100.1"]) == "push"
    assert credentials.auth_mode("none", ["198.51.100.1"]) == "none"


def accepts(line: str, password: str) -> bool:
    """Whether a line of a password file is of this password (RFC 2307: SSHA)."""
    kind, _, value = line.partition("}")
    assert kind.endswith(":{SSHA")
    made = base64.b64decode(value)
    return hashlib.sha1(password.encode() + made[20:], usedforsecurity=False).digest() == made[:20]


@given(SEEDS, st.integers(1, 10**9))
def test_the_password_files_are_the_same_at_each_call_and_know_the_last_this_and_the_next_five_passwords(
    seed: str, version: int
) -> None:
    files = credentials.password_files(seed, version)
    assert files == credentials.password_files(seed, version)
    versions = [each for each in range(version - 1, version + 6) if each]
    users = {name: {line.split(":")[0]: line for line in text.splitlines()} for name, text in files.items()}
    pushing = [credentials.user_name(each, push=True) for each in versions]
    pulling = [credentials.user_name(each, push=False) for each in versions]
    assert list(users[PUSHERS]) == pushing
    assert list(users[READERS]) == [*pushing, *pulling]
    for push in (True, False):
        for each in versions:
            own = credentials.password(seed, each, push=push)
            assert len(own) == 64
            assert accepts(users[READERS][credentials.user_name(each, push=push)], own)
            assert not accepts(users[READERS][credentials.user_name(each, push=not push)], own)
            assert own not in files[READERS]


@given(SEEDS, SEEDS)
def test_two_seeds_have_nothing_in_common(one: str, other: str) -> None:
    if one != other:
        for push in (True, False):
            assert credentials.password(one, 1, push=push) != credentials.password(other, 1, push=push)
        values = {credentials.password_line(seed, 1, push=True).partition("}")[2] for seed in (one, other)}
        assert len({base64.b64decode(value)[20:] for value in values}) == 2


def passwords() -> dict[str, str]:
    return {
        credentials.user_name(1, push=push): credentials.password("key of identity-seed", 1, push=push)
        for push in (True, False)
    }


@pytest.mark.parametrize(("ip", "reads_ask"), [("10.99.0.200", False), ("198.51.100.1", True)])
def test_the_address_decides_and_nodes_get_the_login_for_pulls_alone(ip: str, reads_ask: bool) -> None:
    recorder = Recorder(placeholder=({"ip": ip},), published=({"ip": ip},))
    outputs = run_program(recorder, **{"pullNamespaces": '["team-a"]'})
    assert outputs["username"] == "registry"
    assert outputs["password"] == passwords()["registry"]
    expected = f"registry-pull:{passwords()['registry-pull']}"
    for name in ("credentials-secret", "shares-pull-team-a"):
        secret = recorder.of(":Secret", name)["stringData"]
        config = json.loads(pulumi.runtime.rpc.unwrap_rpc_secret(secret)[".dockerconfigjson"])
        assert list(config["auths"]) == [outputs["registryUrl"]]
        assert base64.b64decode(config["auths"][outputs["registryUrl"]]["auth"]).decode() == expected
        assert outputs["password"] not in json.dumps(secret)
    configuration = recorder.of(":ConfigMap", "registry-config")["data"]["nginx.conf"]
    assert ("location /v2/ {\n            auth_basic" in configuration) == reads_ask
    assert recorder.of(":DaemonSet")["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "registry-http"}]
    pod = recorder.of(":Deployment")["spec"]["template"]["spec"]
    [users] = [each["secret"] for each in pod["volumes"] if each["name"] == "users"]
    assert not users.get("optional")
    assert [each["key"] for each in users["items"]] == [READERS, PUSHERS]


def test_with_auth_none_nobody_gets_a_login() -> None:
    recorder = Recorder()
    outputs = run_program(recorder, auth="none")
    assert not {"username", "password"} & set(outputs)
    secret = pulumi.runtime.rpc.unwrap_rpc_secret(recorder.of(":Secret", "credentials-secret")["stringData"])
    assert json.loads(secret[".dockerconfigjson"]) == {"auths": {}}
    assert "auth_basic" not in recorder.of(":ConfigMap", "registry-config")["data"]["nginx.conf"]
    assert not recorder.of(":DaemonSet")["spec"]["template"]["spec"].get("imagePullSecrets")


@pytest.mark.parametrize(("mode", "said"), [("none", True), ("push", False), ("basic", False)])
def test_only_auth_none_is_warned_of(mode: AuthMode, said: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    credentials.warn_if_open(mode)
    assert len(warnings) == int(said)
    assert all("overwrite" in text and "pulumi config set auth push" in text for text in warnings)


def test_every_public_attribute_is_an_output_and_what_holds_the_password_is_a_secret() -> None:
    recorder = Recorder()

    def make() -> dict[str, object]:
        args = credentials.CredentialsArgs(
            namespace=NAMESPACE,
            seed=pulumi.Output.secret("seed"),
            auth="basic",
            host="registry.example.com",
            addresses=["10.0.0.1"],
            password_version=1,
        )
        return {"username": credentials.Credentials("credentials", args).username}

    assert run_component(recorder, make) == {"username": "registry"}
    [outputs] = [outputs for token, outputs in recorder.registered if token.startswith("private-registry:")]
    secrets = {name for name, value in outputs.items() if pulumi.runtime.rpc.is_rpc_secret(value)}
    assert secrets == {"password", "dockerConfig"}
    assert set(outputs) - secrets == {"mode", "secret", "pullSecret", "username"}
