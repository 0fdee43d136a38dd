"""Every setting has a default that keeps its rule, and a wrong value is named before anything is made."""

import json
from collections.abc import Iterator

import pulumi
import pytest
from pulumi.runtime import config

from registry import names, settings
from registry.pod.images import Images
from tests.unit.support.settings import PROJECT, SCHEMA, FakeConfig


def test_pulumi_yaml_lists_exactly_the_settings_that_the_program_reads() -> None:
    assert sorted(SCHEMA) == sorted(settings.KEYS)
    assert all(entry["description"] and entry["type"] for entry in SCHEMA.values())


def test_a_misspelled_setting_is_refused_with_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", '{"private-registry:exposre": "x", "kubernetes:context": "x"}')
    with pytest.raises(pulumi.RunError, match="exposre.*perhaps exposure was meant.*pulumi config rm exposre"):
        settings.load(FakeConfig())


def test_the_keys_of_providers_and_of_every_setting_are_known() -> None:
    given = ["kubernetes:context", "pulumi:tags", *(f"private-registry:{key}" for key in settings.KEYS)]
    assert settings.unknown_error("private-registry", given) is None


def test_a_setting_of_the_name_that_the_project_had_before_is_refused_and_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", '{"my-registry:auth": "basic", "aws:region": "eu-central-1"}')
    with pytest.raises(
        pulumi.RunError, match="my-registry:auth.*Set private-registry:auth instead.*config rm my-registry:auth"
    ):
        settings.load(FakeConfig())
    others = ["aws:region", "kubernetes:namespace", "vault:address", "another:somethingElse"]
    assert settings.unknown_error("private-registry", others) is None


def test_the_defaults_are_accepted() -> None:
    loaded = settings.load(FakeConfig())
    assert loaded.dns_suffix == "nip.io"
    assert loaded.runtime_restart is True
    assert loaded.storage.storage_class == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("namespace", "Not_A_Label"),
        ("namespace", "a" * 64),
        ("registryImage", ""),
        ("registryImage", "registry 3"),
        ("pythonImage", "https://example.com/python"),
        ("nginxImage", "nginxinc/nginx:1"),
        ("imageRegistry", ""),
        ("imageRegistry", "https://mirror.example.com"),
        ("imageRegistry", "mirror/"),
        ("storageSize", "10 GB"),
        ("storageSize", "0"),
        ("storageSize", "-1Gi"),
        ("storageClass", "Fast_SSD"),
        ("ingressClass", "nginx;drop"),
        ("storage", "disk"),
        ("replicas", "0"),
        ("replicas", "two"),
        ("replicas", "100"),
        ("s3Bucket", "Team"),
        ("s3Bucket", "a"),
        ("s3Bucket", "s3://team-images"),
        ("s3Region", "Frankfurt am Main"),
        ("s3Endpoint", "s3.example.com"),
        ("s3Endpoint", "https://s3.example.com/"),
        ("s3Endpoint", "https://s3.example.com/bucket"),
        ("s3Endpoint", "https://user:password@s3.example.com"),
        ("s3Endpoint", "https://s3.example.com:0"),
        ("s3Ca", "ca.crt"),
        ("exposure", "loadbalancer"),
        ("exposure", ""),
        ("certificateIssuer", "acme"),
        ("address", "10.0.0"),
        ("address", "0.0.0.0"),
        ("address", "127.0.0.1"),
        ("address", "::1"),
        ("address", "kind.localhost"),
        ("address", "fe80::1%eth0"),
        ("address", "10.0.0.1:443"),
        ("host", "registry"),
        ("host", "10.0.0.1"),
        ("host", "https://registry.example.com"),
        ("host", "registry.example.com:"),
        ("host", "registry.example.com:70000"),
        ("host", "Registry.example.com"),
        ("dnsSuffix", "nip.io."),
        ("dnsSuffix", "localhost"),
        ("dnsSuffix", "*.example.com"),
        ("addressTimeout", "2"),
        ("addressTimeout", "0s"),
        ("readyTimeout", "2 minutes"),
        ("runtimeRestart", "yes"),
        ("nodeTrust", "none"),
        ("nodePort", "70000"),
        ("nodePort", "http"),
        ("loadBalancerClass", "my class"),
        ("auth", "token"),
        ("passwordVersion", "0"),
        ("passwordVersion", "two"),
        ("attachPullSecret", "1"),
        ("advertise", ""),
    ],
)
def test_a_wrong_value_is_refused_with_key_value_rule_and_fix(key: str, value: str) -> None:
    with pytest.raises(settings.SettingError) as caught:
        settings.load(FakeConfig(**{key: value}))
    message = str(caught.value)
    assert f":{key} is {value!r}, but " in message
    assert f"pulumi config set {key} " in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("namespace", "registry-pr-42"),
        ("registryImage", "mirror.example.com:5000/library/registry:3@sha256:" + "0" * 64),
        ("storageSize", "1.5Ti"),
        ("storageClass", "standard-rwo"),
        ("dnsSuffix", "registry.example.com"),
        ("replicas", "12"),
        ("s3Bucket", "team.images-2"),
        ("s3Endpoint", "http://minio.storage.svc:9000"),
        ("s3Endpoint", "https://[2001:db8::1]:9000"),
        ("s3Endpoint", "https://10.0.0.1"),
        ("s3Ca", "-----BEGIN CERTIFICATE-----\nMTIz\n-----END CERTIFICATE-----\n" * 2),
        ("addressTimeout", "90s"),
        ("address", "2001:db8::1"),
        ("address", "lb.example.com"),
        ("host", "registry.example.com:8443"),
    ],
)
def test_a_right_value_is_taken_as_it_is(key: str, value: str) -> None:
    assert settings.checked(key, value) == value


def test_the_fix_that_a_rule_offers_keeps_the_rule() -> None:
    for key, rule in settings.RULES.items():
        assert rule.holds(rule.example) or rule.example.startswith("< "), f"{key} is neither that nor read from a file"


def test_every_setting_that_is_a_text_or_a_number_has_a_rule() -> None:
    texts = {key for key, entry in SCHEMA.items() if entry["type"] in ("string", "integer")}
    assert set(settings.RULES) == texts - {settings.LOGIN, *settings.SECRET_KEYS}


def test_the_images_come_from_one_registry_unless_one_is_a_whole_reference() -> None:
    found = settings.load(
        FakeConfig(imageRegistry="mirror.example.com/hub", nginxImage="example.com/me/nginx:1")
    ).images
    assert found == Images(
        registry="mirror.example.com/hub/registry:3",
        nginx="example.com/me/nginx:1",
        python="mirror.example.com/hub/python:3.13-alpine",
        pull_secret=None,
    )


SECRET = json.dumps({"auths": {"docker.io": {"auth": "aGlkZGVuOmhpZGRlbg=="}}})


def given_as(*secrets: str) -> None:
    """Have these settings count as secrets."""
    pulumi.runtime.set_all_config({}, [f"private-registry:{key}" for key in secrets])


def test_a_login_that_is_kept_as_a_secret_is_taken() -> None:
    given_as("imagePullSecret")
    loaded = settings.load(FakeConfig(imagePullSecret=SECRET))
    assert loaded.images.pull_secret == names.IMAGE_LOGIN
    assert loaded.image_pull_secret == SECRET
    assert SECRET not in repr(loaded)


@pytest.mark.parametrize(("value", "secret", "rule"), [
    (SECRET, False, "its value is not encrypted"),
    ('{"auths": {"example.org": {"auth": "aGlkZGVuOmhpZGRlbg=="}}}', True, "logins for example.org alone"),
    ("aGlkZGVuOmhpZGRlbg==", True, "it is no JSON"),
])  # fmt: skip
def test_a_login_that_is_wrong_or_not_encrypted_is_refused_and_not_shown(value: str, secret: bool, rule: str) -> None:
    given_as(*(["imagePullSecret"] if secret else []))
    with pytest.raises(pulumi.RunError) as caught:
        settings.load(FakeConfig(imagePullSecret=value))
    message = str(caught.value)
    assert "private-registry:imagePullSecret" in message
    assert rule in message
    assert "pulumi config set --secret imagePullSecret < config.json" in message
    assert "aGlkZGVu" not in message


def test_the_project_says_who_made_it_under_which_licence_and_for_which_pulumi() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["author"] == "The private-registry authors"
    assert PROJECT["requiredPulumiVersion"] == ">=3.219.0"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("team-a", "a list"),
        ('{"team-a": true}', "a list"),
        ('["Team_A"]', "lower-case"),
        ("[1]", "lower-case"),
        ('["*"]', "whoever can read Secrets in any"),
    ],
)
@pytest.mark.parametrize("key", ["pullNamespaces", "caNamespaces"])
def test_a_wrong_list_of_namespaces_is_refused_with_the_reason(key: str, value: str, reason: str) -> None:
    with pytest.raises(settings.SettingError) as caught:
        settings.load(FakeConfig(**{key: value}))
    assert reason in str(caught.value)
    assert f"pulumi config set --path '{key}[0]' team-a" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("internal", "each a name and a text"),
        ('["a"]', "each a name and a text"),
        ('{"a b": "c"}', "'a b' cannot be the name of an annotation"),
        ('{"A.example.com/x": "c"}', "cannot be the name"),
        ('{"pulumi.com/skipAwait": "true"}', "an order to Pulumi's own provider"),
        ('{"a": ["b"]}', "the value of a has to be a text"),
    ],
)
@pytest.mark.parametrize("key", ["serviceAnnotations", "ingressAnnotations"])
def test_a_wrong_annotation_is_refused_with_the_reason(key: str, value: str, reason: str) -> None:
    with pytest.raises(settings.SettingError) as caught:
        settings.load(FakeConfig(**{key: value}))
    assert reason in str(caught.value)
    assert f"pulumi config set --path '{key}[\"service.beta" in str(caught.value)


def test_annotations_are_texts_also_where_pulumi_stores_something_else() -> None:
    given = '{"a.example.com/x": "internal", "b": true, "c": 5}'
    assert settings.load(FakeConfig(serviceAnnotations=given)).service_annotations == {
        "a.example.com/x": "internal", "b": "true", "c": "5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("10.0.0.0/8", "a list of networks"),
        ('["10.0.0.1"]', "'10.0.0.1' is no network with the length of its prefix"),
        ('["10.0.0.0/33"]', "is no network"),
        ('["10.0.0.1/8"]', "10.0.0.1/8 is an address in the network 10.0.0.0/8"),
        ("[1]", "1 is no network"),
    ],
)
def test_a_wrong_list_of_networks_is_refused_with_the_reason(value: str, reason: str) -> None:
    with pytest.raises(settings.SettingError) as caught:
        settings.load(FakeConfig(allowedSources=value))
    assert reason in str(caught.value)
    assert "pulumi config set --path 'allowedSources[0]' 10.0.0.0/8" in str(caught.value)


def test_networks_of_both_families_are_taken() -> None:
    loaded = settings.load(FakeConfig(allowedSources='["10.0.0.0/8", "2001:db8::/32", "10.0.0.0/8"]'))
    assert loaded.allowed_sources == ("10.0.0.0/8", "2001:db8::/32")


def test_the_two_waits_for_an_address_have_a_default_each_and_one_setting() -> None:
    loaded = settings.load(FakeConfig())
    assert (loaded.published_within, loaded.known_within) == ("2m", "10m")
    loaded = settings.load(FakeConfig(addressTimeout="90s"))
    assert (loaded.published_within, loaded.known_within) == ("90s", "90s")


def test_a_namespace_that_is_listed_twice_counts_once() -> None:
    assert settings.load(FakeConfig(pullNamespaces='["a", "b", "a"]')).pull_namespaces == ("a", "b")


BUCKET = {"storage": "s3", "s3Bucket": "team-images", "s3Region": "eu-central-1"}


@pytest.fixture
def plain() -> Iterator[None]:
    """No setting is a secret."""
    token = config._SECRET_KEYS.set(set())
    yield
    config._SECRET_KEYS.reset(token)


@pytest.fixture
def secrets() -> Iterator[None]:
    """Every setting that has to be a secret is one."""
    token = config._SECRET_KEYS.set({f"private-registry:{key}" for key in settings.SECRET_KEYS})
    yield
    config._SECRET_KEYS.reset(token)


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"storage": "s3"}, ("s3Bucket is ''", "has to be named", "set s3Bucket team-images")),
        ({"storage": "s3", "s3Bucket": "team-images"}, ("s3Region is ''", "the region", "set s3Region")),
        ({"s3Bucket": "team-images"}, ("storage is 'volume'", "s3Bucket is set", "set storage s3", "rm s3Bucket")),
        ({"s3SecretKey": "x"}, ("storage is 'volume'", "s3SecretKey is set", "rm s3SecretKey")),
        ({"replicas": "2"}, ("replicas is '2'", "only from a bucket", "set replicas 1", "s3Bucket")),
        ({"replicas": "2", "storage": "memory"}, ("replicas is '2'", "only from a bucket")),
        ({**BUCKET, "storageSize": "10Gi"}, ("storage is 's3'", "storageSize is set", "rm storageSize")),
        ({**BUCKET, "storageClass": "ssd"}, ("storage is 's3'", "storageClass is set", "rm storageClass")),
        ({**BUCKET, "s3AccessKey": "x"}, ("s3SecretKey is ''", "s3AccessKey is set", "set --secret s3SecretKey")),
        ({**BUCKET, "s3SecretKey": "x"}, ("s3AccessKey is ''", "s3SecretKey is set", "set --secret s3AccessKey")),
        (
            {**BUCKET, "s3Ca": "-----BEGIN CERTIFICATE-----\nMTIz\n-----END CERTIFICATE-----"},
            ("s3Endpoint is ''", "with TLS only", "set s3Endpoint https://", "rm s3Ca"),
        ),
    ],
)
def test_settings_of_the_storage_that_do_not_fit_each_other_are_refused(
    given: dict[str, str], says: tuple[str, ...]
) -> None:
    with pytest.raises(settings.SettingError) as caught:
        settings.load(FakeConfig(**given))
    assert [part for part in says if part not in str(caught.value)] == []


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("key", settings.SECRET_KEYS)
def test_a_key_of_the_bucket_in_plain_text_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        settings.load(FakeConfig(**BUCKET, **{key: "very-hidden"}))
    assert f"private-registry:{key} is in plain text" in str(caught.value)
    assert f"pulumi config set --secret {key} " in str(caught.value)
    assert "very-hidden" not in str(caught.value)


@pytest.mark.usefixtures("secrets")
def test_the_settings_of_a_bucket_are_one_value_that_shows_no_key() -> None:
    loaded = settings.load(FakeConfig(**BUCKET, s3AccessKey="access", s3SecretKey="very-hidden", replicas="3"))
    bucket = loaded.storage.bucket
    assert bucket
    assert (loaded.storage.kind, loaded.storage.size, loaded.storage.replicas) == ("s3", "", 3)
    assert (bucket.name, bucket.region, bucket.endpoint, bucket.ca) == ("team-images", "eu-central-1", "", "")
    assert bucket.keys
    assert "very-hidden" not in repr(loaded)
    elsewhere = settings.load(FakeConfig(storage="s3", s3Bucket="team-images", s3Endpoint="http://s3.example.com"))
    assert elsewhere.storage.bucket
    assert (elsewhere.storage.bucket.region, elsewhere.storage.bucket.keys) == ("us-east-1", None)
