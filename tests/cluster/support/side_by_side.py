"""Which tests run on the same worker of pytest-xdist, one after the other, while others run beside them.

The tests of a module do, so that its fixtures are made once. So do those of several modules that share something of
which there can be only one at a time. `--dist loadgroup` would say that by marks, but pytest-xdist 3.8.0 ignores them
on pytest 9.2.0: it writes a group into the attribute `_nodeid` of a test, which that pytest no longer reads.
"""

from pathlib import PurePath

from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "controllers with kinds of the whole cluster": (
        "test_ca",
        "test_conformance",
        "test_exposures",
        "test_moved_addresses",
        "test_renewals",
        "test_switches",
    ),
    "the port of the API server without nodes": ("test_certificates", "test_identity"),
    "the one registry that is advertised in kube-public": ("test_namespace_shares", "test_rbac"),
}
"""What there is only one of, and the modules whose tests use it."""


def group(test: str) -> str:
    """Return the name of the group of a test, which is given by its id, such as `tests/cluster/test_x.py::test_y`."""
    module = PurePath(test.partition("::")[0]).stem
    return next((what for what, modules in TOGETHER.items() if module in modules), module)


class GroupScheduling(LoadScopeScheduling):
    """Gives each worker one group after the other, beginning with those of the most tests."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
