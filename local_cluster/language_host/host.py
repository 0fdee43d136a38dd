#!/usr/bin/env python3
"""Pulumi's language host for Python, for where the official one can't be had: no package registry serves it.

`pulumi` starts `pulumi-language-python` from PATH, reads a port from its first line and asks it over gRPC to run the
program; once for a preview, and another host once for the update. The program runs in this process and so with the
interpreter that is `python3` on PATH: that of the project's virtual environment, if it is active.

What is not for running a program (installing dependencies, generating code, plugins written in Python) is answered with
gRPC's UNIMPLEMENTED.

Source: the service LanguageRuntime, language.proto, as in the Python package `pulumi`.
"""

import asyncio
import atexit
import logging
import os
import runpy
import signal
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from types import FrameType

try:
    import grpc
    import pulumi
    from google.protobuf.empty_pb2 import Empty
    from pulumi import runtime
    from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2
except ImportError as error:
    print(
        f"{sys.executable} has no package {error.name!r}: activate the virtual environment into which the "
        "project's requirements.txt is installed, so that its python3 is the first on PATH",
        file=sys.stderr,
    )
    sys.exit(1)


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """Runs Python programs for one engine."""

    def __init__(self, engine: str) -> None:
        """Serve the engine at the address `engine`, to which messages for the user go."""
        self._engine = engine
        self.idle = threading.Event()
        """Set while no program runs."""
        self.idle.set()

    def Handshake(
        self, request: language_pb2.LanguageHandshakeRequest, context: grpc.ServicerContext
    ) -> language_pb2.LanguageHandshakeResponse:
        """Agree that the engine may go on."""
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        """Return the version of the Pulumi package that programs run with."""
        return plugin_pb2.PluginInfo(version=metadata.version("pulumi"))

    def About(self, request: language_pb2.AboutRequest, context: grpc.ServicerContext) -> language_pb2.AboutResponse:
        """Return the interpreter that programs run with."""
        return language_pb2.AboutResponse(executable=sys.executable, version=sys.version.partition(" ")[0])

    def GetRequiredPackages(
        self, request: language_pb2.GetRequiredPackagesRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetRequiredPackagesResponse:
        """Return nothing: a provider is loaded when the program first asks for a resource of it."""
        return language_pb2.GetRequiredPackagesResponse()

    def Run(self, request: language_pb2.RunRequest, context: grpc.ServicerContext) -> language_pb2.RunResponse:
        """Run a program to its end. What makes it fail is shown to the user here, once."""
        runtime.reset_options(
            project=request.project,
            stack=request.stack,
            organization=request.organization,
            parallel=request.parallel,
            preview=request.dryRun,
            monitor_address=request.monitor_address,
            engine_address=self._engine,
        )
        runtime.set_all_config(dict(request.config), list(request.configSecretKeys))
        directory = Path(request.info.program_directory or request.pwd)
        program = directory / (request.info.entry_point or ".")
        os.chdir(request.pwd or directory)
        sys.argv = [str(program), *request.args]
        self.idle.clear()
        try:
            message = _run(program, workers=max(request.parallel, 1) * 4)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            self.idle.set()
        if message:
            pulumi.log.error(message)
        return language_pb2.RunResponse(bail=bool(message))


def _run(program: Path, *, workers: int) -> str:
    """Run a program as the resources of its stack; return why it failed, for the user, or nothing."""
    # A failed resource leaves tasks that nobody waits for, and asyncio complains of each.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)

    async def run() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=workers))
        await runtime.run_in_stack(lambda: _execute(program))

    try:
        asyncio.run(run())
    except pulumi.RunError as error:
        return str(error)
    except SystemExit as error:
        return f"the program exited with status {error.code}" if error.code else ""
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAVAILABLE:  # the engine is ending: the user has cancelled
            return ""
        return f"the engine refused a request of the program: {error.details()}"
    except Exception as error:
        return f"Program failed with an unhandled exception:\n{_program_traceback(error, program)}"
    return ""


def _execute(program: Path) -> None:
    runpy.run_path(str(program), run_name="__main__")


def _program_traceback(error: BaseException, program: Path) -> str:
    """Format a traceback from the program's first line in it on: what called the program is nothing to the user."""
    folder = program if program.is_dir() else program.parent
    frames = error.__traceback__
    while frames and not Path(frames.tb_frame.f_code.co_filename).is_relative_to(folder):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))


def main() -> None:
    """Serve the engine named on the command line until it ends us or is gone."""
    addresses = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if not addresses:
        sys.exit("usage: pulumi-language-python ENGINE_ADDRESS; it is started by pulumi")
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    # Pulumi interrupts a host that it needs no more. A Ctrl-C of the user reaches pulumi only: hosts are no children of
    # the terminal's process group.
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    parent = os.getppid()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    host = LanguageHost(addresses[-1])
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port)
    while not stopped.wait(timeout=1) and os.getppid() == parent:
        pass
    sys.stdout.flush()
    if not host.idle.is_set():
        os._exit(0)  # a program that still runs would be waited for
    server.stop(grace=None).wait()
    # What a program has put off until the interpreter's end is done: the Kubernetes client removes key files then. To
    # take a thousand modules down one by one would hold up the engine, which waits for this process.
    atexit._run_exitfuncs()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the only way to have them run now
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
