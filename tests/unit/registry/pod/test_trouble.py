"""Why a pod of the program does not run, in the cluster's own words, and what helps."""

from typing import Any

import pytest

from registry.pod.trouble import Crash, crashes, image_fix, last_words, pod_trouble, registry_trouble

IMAGE = "docker.io/library/python:3.13-alpine"
PULL = f'Failed to pull image "{IMAGE}": rpc error: code = Unknown desc = '
OLD, NEW = f'failed to resolve reference "{IMAGE}": ', "failed to resolve image: "
"""How containerd's words begin up to 2.0, and in 2.2 and newer."""
HEAD = "unexpected status from HEAD request to https://127.0.0.1:23456/v2/closed/python/manifests/1: "
NO_LOGIN = (
    "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth "
)
LIMITS = {
    "containerd 1.6, 1.7, 2.0": f"{OLD}{HEAD}429 Too Many Requests",
    "containerd 2.2, 2.3, 2.4": f"{NEW}{HEAD}429 Too Many Requests",
    "Docker Hub, from documents": "toomanyrequests: You have reached your unauthenticated pull rate limit.",
}
LOGINS = {
    "containerd 1.6, 1.7, 2.0: 401": f"{OLD}{NO_LOGIN}credentials",
    "containerd 2.2, 2.3, 2.4: 401": f"{NEW}{NO_LOGIN}credentials",
    "containerd 1.6, 1.7, 2.0: 403": f"{OLD}{HEAD}403 Forbidden",
    "containerd 2.2, 2.3, 2.4: 403": f"{NEW}{HEAD}403 Forbidden",
    "a refused token, from documents": "failed to authorize: failed to fetch anonymous token: unexpected status "
    "from GET request to https://auth.example.com/token: 401 Unauthorized",
    "CRI-O, from documents": "reading manifest 3 in x: denied: requested access to the resource is denied",
}
"""What container runtimes say. Those of containerd are what real ones said of the refusing registry of the tests."""
LIMIT = LIMITS["Docker Hub, from documents"]


def waiting(name: str, reason: str, message: str) -> dict[str, Any]:
    return {"name": name, "image": IMAGE, "state": {"waiting": {"reason": reason, "message": message}}}


def pod(*containers: dict[str, Any], login: str = "") -> dict[str, Any]:
    secrets = [{"name": login}] if login else []
    return {
        "metadata": {"name": "registry-1"},
        "spec": {"imagePullSecrets": secrets},
        "status": {"containerStatuses": list(containers)},
    }


def event(message: str, *, kind: str = "Pod", name: str = "registry-1", reason: str = "Failed") -> dict[str, Any]:
    return {"metadata": {}, "involvedObject": {"kind": kind, "name": name}, "reason": reason, "message": message}


@pytest.mark.parametrize("words", LIMITS.values(), ids=LIMITS)
def test_a_limit_of_pulls_is_named_with_both_settings(words: str) -> None:
    fix = image_fix(waiting("agent", "ErrImagePull", words), words, has_login=False)
    assert fix.startswith(
        "docker.io limits how often it is pulled from: log in, which allows more pulls (pulumi config "
    )
    assert "pulumi config set --secret imagePullSecret < config.json" in fix
    assert "pulumi config set imageRegistry mirror.example.com/library" in fix
    assert "as a user who may pull more" in image_fix(waiting("agent", "", words), words, has_login=True)


@pytest.mark.parametrize("words", LOGINS.values(), ids=LOGINS)
def test_a_registry_that_wants_a_login_is_named_with_the_setting(words: str) -> None:
    container = waiting("nginx", "ErrImagePull", words)
    fix = image_fix(container, words, has_login=False)
    assert fix.startswith(f"docker.io gives {IMAGE} to nobody without a login")
    assert "pulumi config set --secret imagePullSecret < config.json" in fix
    assert "nginxImage" in fix
    assert "to the login in the setting imagePullSecret" in image_fix(container, words, has_login=True)


def test_an_image_that_is_not_there_is_named_with_its_setting() -> None:
    fix = image_fix(waiting("proof-image", "ErrImagePull", ""), f"{NEW}{IMAGE}: not found", has_login=False)
    assert fix.startswith("set pythonImage to an image that this node can pull")


def test_between_two_tries_the_event_has_the_runtimes_words() -> None:
    back_off = waiting("nginx", "ImagePullBackOff", f'Back-off pulling image "{IMAGE}"')
    events = [event(PULL + LIMIT), event("Error: ErrImagePull")]
    assert pod_trouble(pod(back_off), events) == f"ImagePullBackOff: {PULL}{LIMIT}"
    newer = waiting("nginx", "ImagePullBackOff", f'Back-off pulling image "{IMAGE}": ErrImagePull: {LIMIT}')
    assert pod_trouble(pod(newer), []).endswith(LIMIT)


def test_the_registrys_pod_is_told_with_the_fix_of_the_container_that_waits() -> None:
    found = pod({"name": "nginx", "state": {"running": {}}}, waiting("proof-image", "ErrImagePull", LIMIT))
    why, fix = registry_trouble([found], [], "image-login")
    assert why == f"ErrImagePull: {LIMIT}"
    assert fix.startswith("docker.io limits")
    _, fix = registry_trouble([{**found, "spec": {"imagePullSecrets": [{"name": "image-login"}]}}], [], "image-login")
    assert "as a user who may pull more" in fix


def test_a_container_that_somebody_injected_is_told_without_a_setting() -> None:
    assert registry_trouble([pod(waiting("istio-proxy", "ErrImagePull", "429"))], [], "") == ("ErrImagePull: 429", "")


def test_a_volume_and_a_refusal_are_told_in_the_clusters_words() -> None:
    volume = event("no such class", kind="PersistentVolumeClaim", name="registry", reason="ProvisioningFailed")
    unscheduled = {**pod(), "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "waits"}]}}
    assert registry_trouble([unscheduled], [volume], "") == ("ProvisioningFailed: no such class", "")
    assert registry_trouble([unscheduled], [], "") == ("waits", "")
    refused = event("forbidden by y", kind="ReplicaSet", name="registry-5", reason="FailedCreate")
    assert registry_trouble([], [refused], "") == ("forbidden by y", "")
    assert registry_trouble([], [], "") == ("", "")


def test_a_pod_that_has_found_its_node_does_not_wait_for_one() -> None:
    scheduled = {**pod(), "status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}}
    earlier = event("unbound claims", name="registry-1", reason="FailedScheduling")
    assert registry_trouble([scheduled], [earlier], "") == ("", "")
    assert registry_trouble([pod()], [earlier], "") == ("FailedScheduling: unbound claims", "")


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_has_ended_for_good_speaks_only_if_no_other_does(phase: str) -> None:
    evicted = {"metadata": {"name": "registry-0"}, "status": {"phase": phase}}
    past = event("The node was low on resource: memory.", name="registry-0", reason="Evicted")
    present = pod(waiting("registry", "ErrImagePull", LIMIT))
    assert registry_trouble([evicted, present], [past], "")[0] == f"ErrImagePull: {LIMIT}"
    assert registry_trouble([evicted, pod()], [past], "")[0] == "Evicted: The node was low on resource: memory."


def test_what_a_registry_has_answered_in_several_lines_is_told_in_one() -> None:
    words = f"{PULL}{OLD}unexpected status: 403 Forbidden (Body: {{\n  denied\n}})"
    assert "\n" not in pod_trouble(pod(waiting("agent", "ErrImagePull", words)), [])
    event = {"reason": "Failed", "message": words, "involvedObject": {"name": "p"}, "metadata": {}}
    nothing_yet = {"name": "agent", "image": IMAGE, "state": {"waiting": {"reason": "ContainerCreating"}}}
    assert "\n" not in pod_trouble(pod(nothing_yet), [event])


PANIC = """\
time="2026-11-27T09:00:00Z" level=info msg="redis not configured"
panic: invalid region provided: eu-centrl-1

goroutine 1 [running]:
github.com/distribution/distribution/v3/registry/handlers.NewApp({0x1, 0x2}, 0xc0002)
\tgithub.com/distribution/distribution/v3/registry/handlers/app.go:129 +0x1e5
"""
"""What distribution 3 says of a region that is misspelt."""
BACK_OFF = "back-off 40s restarting failed container=registry pod=registry-1"


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (PANIC, "panic: invalid region provided: eu-centrl-1"),
        (
            'level=panic msg="unable to configure authorization"\npanic: (*logrus.Entry) 0xc0001',
            'level=panic msg="unable to configure authorization"',
        ),
        ("configuration error: error parsing /etc/config.yml: no version\nUsage:\n  registry serve\n", "configuration"),
        ("nginx: [emerg] cannot load certificate\nnginx: configuration file test failed\n", "nginx: [emerg] cannot"),
        ("Traceback (most recent call last):\n  File x\nOSError: no space\n\n", "OSError: no space"),
        ("", ""),
        ("\n \n", ""),
    ],
    ids=["panic", "logrus", "configuration", "nginx", "Python", "nothing", "blank lines"],
)
def test_the_line_that_says_why_a_program_has_ended_is_found(log: str, told: str) -> None:
    assert last_words(log).startswith(told)
    assert bool(last_words(log)) == bool(told)
    assert "\n" not in last_words(log)


@pytest.mark.parametrize(
    "secret",
    [
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "0123456789abcdef0123456789abcdef",
        "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=",
    ],
)
def test_nothing_like_a_key_is_quoted_and_the_quote_is_bounded(secret: str) -> None:
    assert last_words(f"panic: no such key {secret} at s3") == "panic: no such key (hidden) at s3"
    for line in (
        "panic: https://u:pass@s3.example.com/x",
        "panic: Secret=pass&a=b",
        "panic: password=pass",
        "panic: X-KEY=pass",
    ):
        assert "pass" not in last_words(line).replace("password=", "")
    assert len(last_words("panic: " + "no " * 1000)) < 310


@pytest.mark.parametrize("previous", [True, False])
def test_a_crashed_container_is_told_with_what_its_log_says_and_the_command_for_the_rest(previous: bool) -> None:
    ended = {"name": "registry", "state": {"terminated": {"exitCode": 2, "reason": "Error"}}}
    crashed = waiting("registry", "CrashLoopBackOff", BACK_OFF) if previous else ended
    found = pod({"name": "nginx", "state": {"running": {}}}, crashed)
    found["metadata"]["namespace"] = "team"
    [crash] = crashes(found)
    assert crash == Crash("registry-1", "registry", previous)
    why, fix = registry_trouble([found], [], "", {crash: PANIC})
    assert why == "the container registry ends as soon as it starts: panic: invalid region provided: eu-centrl-1"
    command = "kubectl logs -n team registry-1 -c registry" + (" --previous" if previous else "")
    assert fix == f"its log tells more: {command}"
    why, unread = registry_trouble([found], [], "", {crash: ""})
    assert why.startswith("the container registry ends as soon as it starts")
    assert (BACK_OFF in why) == previous
    assert unread == fix


def test_what_has_ended_well_or_for_good_has_not_crashed() -> None:
    done = {"name": "prepare", "state": {"terminated": {"exitCode": 0}}}
    assert crashes(pod(done, waiting("nginx", "ErrImagePull", LIMIT))) == []
    evicted = pod(waiting("registry", "CrashLoopBackOff", BACK_OFF))
    evicted["status"]["phase"] = "Failed"
    assert crashes(evicted) == []
