"""The two errors that commands of the local cluster report as one sentence, without a traceback."""


class BuildError(Exception):
    """A part of the local cluster can't be built on this machine; the message says what, why and what to do."""


class ClusterError(Exception):
    """The local cluster can't do what was asked; one sentence says what failed and what to do."""
