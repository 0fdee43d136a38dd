"""A registry for a session of tests: made before the first test that asks for it, destroyed after the last one.

Copy this file into your tests, and set PRIVATE_REGISTRY to a checkout of the program. It needs the package `pulumi`,
the Pulumi CLI after `pulumi login`, and a kubeconfig.
"""

import os
import secrets
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from pulumi import automation


def _up(stack: automation.Stack) -> automation.UpResult:
    stack.set_config("storage", automation.ConfigValue("memory"))
    stack.set_config("storageSize", automation.ConfigValue("1Gi"))
    return stack.up(on_output=print)


@pytest.fixture(scope="session")
def registry() -> Generator[dict[str, str], None, None]:
    """The outputs of a registry of the session's own, such as `registryUrl`, `caCertificate` and `password`."""
    stack = automation.create_or_select_stack(
        stack_name=f"tests-{secrets.token_hex(4)}", work_dir=os.environ["PRIVATE_REGISTRY"]
    )
    # The terminal sends Control-C to Pulumi as well, which then ends what it has begun. Python waits for that in a
    # thread alone, since there it is not interrupted.
    up = ThreadPoolExecutor(1).submit(_up, stack)
    try:
        yield {name: output.value for name, output in up.result().outputs.items()}
    finally:
        wait([up])
        try:
            stack.destroy(on_output=print)
        except automation.ConcurrentUpdateError:  # the lock of an `up` that was killed, since none runs any more
            stack.cancel()
            stack.destroy(on_output=print)
        stack.workspace.remove_stack(stack.name)
