"""Who is asked for a password, what the password is, and that the registry's own file of it never means "everyone"."""

import base64
import ipaddress
import json
from pathlib import Path

import bcrypt
import pulumi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import credentials
from registry.registry import configuration
from tests.unit.support.engine import NAMESPACE, Recorder, run_component, run_program

SEEDS = st.text(min_size=1)
PRIVATE = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "::1/128",
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
    assert not credentials.is_private(str(addresses[0] - 1)) or network == "::1/128"
    assert not credentials.is_private(str(addresses[-1] + 1))


@given(st.ip_addresses())
def test_what_the_internet_routes_to_is_never_private(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if ip.is_global:
        assert not credentials.is_private(str(ip))
        assert credentials.needs_password("auto", ["10.0.0.1", str(ip)])


@given(st.text())
def test_what_is_no_address_is_not_private(text: str) -> None:
    assert not credentials.is_private(f"{text}.example.com")


@given(st.lists(st.ip_addresses(v=4, network="10.0.0.0/8").map(str), min_size=1))
def test_only_where_every_address_is_private_nobody_is_asked(addresses: list[str]) -> None:
    assert not credentials.needs_password("auto", addresses)
    assert credentials.needs_password("auto", [*addresses, "lb.example.com"])
    assert credentials.needs_password("auto", [])
    assert credentials.needs_password("basic", addresses)
    assert not credentials.needs_password("none", ["198.51.100.1"])


@settings(deadline=None)
@given(SEEDS, st.integers(1, 10**9))
def test_the_password_file_is_the_same_at_each_call_and_lets_the_last_this_and_the_next_password_in(
    seed: str, version: int
) -> None:
    text = credentials.htpasswd(seed, version)
    assert text == credentials.htpasswd(seed, version)
    users = dict(line.split(":") for line in text.splitlines())
    versions = [each for each in (version - 1, version, version + 1) if each]
    assert list(users) == [credentials.user_name(each) for each in versions]
    for each in versions:
        own = credentials.password(seed, each)
        assert len(own) == 64
        assert bcrypt.checkpw(own.encode(), users[credentials.user_name(each)].encode())
        assert own not in text
    assert not bcrypt.checkpw(b"0" * 64, users[credentials.user_name(version)].encode())


@settings(deadline=None)
@given(SEEDS, SEEDS)
def test_two_seeds_have_nothing_in_common(one: str, other: str) -> None:
    if one != other:
        assert credentials.password(one, 1) != credentials.password(other, 1)
        salts = {credentials.htpasswd_line(seed, 1)[: len("registry:$2b$05$") + 22] for seed in (one, other)}
        assert len(salts) == 2


def test_a_public_address_makes_the_registry_ask_and_the_nodes_and_the_pusher_answer() -> None:
    recorder = Recorder(placeholder=({"ip": "198.51.100.1"},), published=({"ip": "198.51.100.1"},))
    outputs = run_program(recorder)
    assert outputs["username"] == "registry"
    secret = recorder.of(":Secret", "credentials-secret")["stringData"]["value"]
    config = json.loads(secret[".dockerconfigjson"])
    assert list(config["auths"]) == [outputs["registryUrl"]]
    login = base64.b64decode(config["auths"][outputs["registryUrl"]]["auth"]).decode()
    assert login == f"registry:{outputs['password']}"
    assert json.loads(recorder.of(":ConfigMap", "registry-config")["data"]["config.yml"])["auth"]["htpasswd"]["path"]
    assert recorder.of(":DaemonSet")["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "registry-http"}]
    pod = recorder.of(":Deployment")["spec"]["template"]["spec"]
    for volume in ("users", "login"):
        mounts = [mount for c in pod["containers"] for mount in c["volumeMounts"] if mount["name"] == volume]
        assert [mount["readOnly"] for mount in mounts] == [True]
        (found,) = [each["secret"] for each in pod["volumes"] if each["name"] == volume]
        assert not found.get("optional")
        assert len(found["items"]) == 1


def test_a_private_address_leaves_everything_as_it_is_without_a_password() -> None:
    recorder = Recorder()
    outputs = run_program(recorder)
    assert not {"username", "password"} & set(outputs)
    assert set(recorder.of(":Secret", "credentials-secret")["stringData"]["value"]) == {"secret", ".dockerconfigjson"}
    assert "auth" not in json.loads(recorder.of(":ConfigMap", "registry-config")["data"]["config.yml"])
    assert not recorder.of(":DaemonSet")["spec"]["template"]["spec"].get("imagePullSecrets")
    volumes = recorder.of(":Deployment")["spec"]["template"]["spec"]["volumes"]
    assert not {"users", "login"} & {volume["name"] for volume in volumes}


@pytest.mark.parametrize("tls", [True, False])
def test_without_a_password_file_the_registry_has_no_place_to_make_one(tls: bool) -> None:
    config = configuration(tls=tls, asks_password=True)
    auth = config["auth"]
    assert isinstance(auth, dict)
    assert Path(auth["htpasswd"]["path"]).parent == Path("/etc/private-registry-users")
    assert "auth" not in configuration(tls=tls, asks_password=False)


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
    assert set(outputs) - secrets == {"secret", "pullSecret", "required", "username"}
