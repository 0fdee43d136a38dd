"""The configuration of nginx, as text; what nginx makes of it is tried in tests/cluster/test_nginx.py."""

import re
from pathlib import Path
from typing import get_args

import pytest

from registry.pod import nginx
from registry.registry import DATA

MODES: tuple[nginx.AuthMode, ...] = get_args(nginx.AuthMode)


def location(text: str, name: str) -> str:
    """What is in the block of a location."""
    found = re.search(rf"\n        location {re.escape(name)} \{{\n(.*?)\n        \}}", text, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize("mode", MODES)
def test_only_the_question_for_a_password_differs_between_the_modes(mode: nginx.AuthMode) -> None:
    def without_question(text: str) -> str:
        return re.sub(r"(limit_except GET \{ )?auth_basic .*", "", text).replace(" \n", "\n")

    def lines(text: str) -> list[str]:
        return [line.strip() for line in without_question(text).splitlines() if line.strip()]

    assert lines(nginx.configuration(mode, DATA)) == lines(nginx.configuration("none", DATA))
    assert "auth_basic" not in nginx.configuration("none", DATA)


def test_the_ping_is_proxied_where_it_asks_and_the_probe_is_never_asked() -> None:
    for mode in ("push", "basic"):
        text = nginx.configuration(mode, DATA)
        assert f"{nginx.USERS}/{nginx.READERS};" in location(text, "= /v2/")
        assert "proxy_pass http://registry/v2/;" in location(text, "= /v2/")
        assert "return" not in location(text, "= /v2/")
        assert "auth_basic" not in location(text, "= /")
        writes = re.search(r"limit_except GET \{ (.*) \}", location(text, "/v2/"))
        assert writes
        assert f"{nginx.USERS}/{nginx.PUSHERS};" in writes[1]
    assert "auth_basic" not in location(nginx.configuration("push", DATA), "/v2/").split("limit_except")[0]
    assert (
        f"{nginx.USERS}/{nginx.READERS};"
        in location(nginx.configuration("basic", DATA), "/v2/").split("limit_except")[0]
    )


def test_layers_of_any_size_pass_without_a_file_and_the_registry_gets_no_password() -> None:
    text = nginx.configuration("basic", DATA)
    for line in (
        "client_max_body_size 0;",
        "proxy_request_buffering off;",
        "proxy_buffering off;",
        "proxy_http_version 1.1;",
        'proxy_set_header Connection "";',
        'proxy_set_header Authorization "";',
    ):
        assert f"    {line}\n" in text, line
    assert len(re.findall(rf"_temp_path {nginx.RUN}/", text)) == 5
    assert f"pid {nginx.RUN}/nginx.pid;" in text


def test_both_ports_are_served_and_the_registry_is_on_loopback() -> None:
    text = nginx.configuration("push", DATA)
    for address in ("", "[::]:"):
        assert f"listen {address}{nginx.PLAIN_PORT} " in text
        assert f"listen {address}{nginx.TLS_PORT} ssl " in text
    assert re.findall(r"server ([\d.]+):", text) == ["127.0.0.1"]


def test_the_script_is_beside_the_module_and_takes_out_what_needs_ipv6() -> None:
    script = Path(nginx.__file__).with_suffix(".sh").read_text()
    pattern = re.search(r"sed '/(.*)/d'", script)
    assert pattern
    kept = [line for line in nginx.configuration("push", DATA).splitlines() if not re.search(pattern[1], line)]
    assert [line.split()[1] for line in kept if "listen " in line] == [str(nginx.PLAIN_PORT), str(nginx.TLS_PORT)]


def test_the_programs_of_the_pod_know_the_files_that_stop_pushes() -> None:
    folder = Path(nginx.__file__).parent
    assert f"stopped={nginx.STOPPED}\n" in (folder / "nginx.sh").read_text()
    assert (f"{nginx.RUN}/stopped", f"{nginx.RUN}/full") == (nginx.STOPPED, nginx.FULL)
    program = (folder / "proof_image.py").read_text()
    assert 'Path(run) / "full"' in program
    assert 'Path(run) / "stopped"' in program


def test_pulls_are_never_stopped_and_deletions_need_no_space() -> None:
    text = nginx.configuration("push", DATA)

    def methods(variable: str, file: str) -> set[str]:
        found = re.search(rf"map \$request_method \${variable} \{{\n(.*?)\n    \}}", text, re.DOTALL)
        assert found
        lines = dict(line.strip(" ;").split() for line in found[1].splitlines())
        return {name for name, value in lines.items() if value == file}

    assert methods("stopped", nginx.STOPPED) == {"default"}
    assert methods("stopped", f"{nginx.RUN}/never") == {"GET", "HEAD"}
    assert methods("full", nginx.FULL) == {"PATCH", "POST", "PUT"}


def test_blobs_are_sent_from_the_registrys_files_where_it_has_any_and_everyone_is_asked_who_is_asked_for_pulls() -> (
    None
):
    text = nginx.configuration("basic", DATA)
    (blobs,) = re.findall(r"\n        location ~ (.*?)\n        \}", text, re.DOTALL)
    assert f"alias {DATA}/docker/registry/v2/blobs/sha256/$two/$two$rest/data;" in blobs
    for block in (blobs, location(text, "@registry")):
        assert f"{nginx.USERS}/{nginx.READERS};" in block, "no way around the question"
    for block in (blobs, location(text, "= /has-blob")):
        assert "internal;" in block
    assert not re.search(r"alias|auth_request|rewrite \^ /blob", nginx.configuration("basic", "")), "it has no files"
