"""A wait that is bounded, and that ends in a sentence of ours when it was in vain."""

from collections.abc import Callable

import pulumi


def wait(name: str, parent: pulumi.Resource, timeout: str, reason: Callable[[], str]) -> pulumi.ResourceOptions:
    """Options of an object that the provider waits for.

    Args:
        name: A name that no other hook of the program has.
        parent: Component of the object.
        timeout: How long to wait, such as `2m`.
        reason: Asked once when the wait was in vain: why, and what to do. The provider tells only that it was.
    """

    def tell(_: pulumi.ErrorHookArgs) -> bool:
        pulumi.log.error(reason())
        return False  # it has waited enough

    return pulumi.ResourceOptions(
        parent=parent,
        custom_timeouts=pulumi.CustomTimeouts(create=timeout, update=timeout, delete=timeout),
        hooks=pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook(name, tell)]),
    )
