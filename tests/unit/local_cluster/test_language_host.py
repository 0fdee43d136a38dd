"""The language host as a process of its own, asked over gRPC as Pulumi asks it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import language_pb2, language_pb2_grpc

from local_cluster.programs import LANGUAGE_HOST

Process = subprocess.Popen[str]


@pytest.fixture
def host() -> Iterator[Process]:
    command = [sys.executable, str(LANGUAGE_HOST), "-root=/", "127.0.0.1:1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture
def runtime(host: Process) -> Iterator[language_pb2_grpc.LanguageRuntimeStub]:
    assert host.stdout
    with grpc.insecure_channel(f"127.0.0.1:{int(host.stdout.readline())}") as channel:
        yield language_pb2_grpc.LanguageRuntimeStub(channel)


def test_it_reports_the_version_of_the_pulumi_package(runtime: language_pb2_grpc.LanguageRuntimeStub) -> None:
    assert runtime.GetPluginInfo(Empty()).version == metadata.version("pulumi")


def test_it_reports_the_interpreter_that_runs_programs(runtime: language_pb2_grpc.LanguageRuntimeStub) -> None:
    assert runtime.About(language_pb2.AboutRequest()).executable == sys.executable


def test_what_it_does_not_do_is_unimplemented(runtime: language_pb2_grpc.LanguageRuntimeStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(runtime.RunPlugin(language_pb2.RunPluginRequest()))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_quietly_at_a_signal(host: Process, number: signal.Signals) -> None:
    assert host.stdout
    assert host.stderr
    assert host.stdout.readline().strip().isdigit()
    host.send_signal(number)
    assert (host.wait(timeout=5), host.stdout.read(), host.stderr.read()) == (0, "", "")


def test_it_ends_as_an_interpreter_does_so_that_a_program_can_clean_up() -> None:
    code = (
        "import atexit, runpy, sys; atexit.register(print, 'cleaned up'); "
        "sys.argv = [sys.argv[1], '127.0.0.1:1']; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(LANGUAGE_HOST)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().strip().isdigit()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
        assert process.stdout.read() == "cleaned up\n"


def test_it_names_the_interpreter_that_lacks_the_pulumi_package() -> None:
    command = [sys.executable, "-S", str(LANGUAGE_HOST), "127.0.0.1:1"]  # -S: without the environment's packages
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{sys.executable} has no package 'grpc': activate the virtual environment")


def test_it_says_who_starts_it_when_it_is_started_by_hand() -> None:
    done = subprocess.run([sys.executable, str(LANGUAGE_HOST)], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "started by pulumi" in done.stderr
