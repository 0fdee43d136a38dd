"""How the Kubernetes provider that we can build is brought to the rules of the releases that users have.

The Go module proxy serves one version of the provider's module, of January 2026. Release 4.29 changed how an object is
created: with a POST, which fails where the object exists, instead of a server-side apply, which takes it over. The
setting `upsertExistingObjects` brings the old rule back (release notes of pulumi-kubernetes 4.29.0). A program can pass
with one rule and fail with the other, so the tests can run with either: the provider that the local cluster uses by
default has the changes below, and with PRIVATE_REGISTRY_PROVIDER=unchanged a cluster that is started gets the module as
it is, from the folder `plugins-unchanged`.

What this does not do: bring any other change of a later release.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import BuildError


@dataclass(frozen=True, kw_only=True)
class Change:
    """One text in a source file of a Go module that is replaced by another."""

    file: str
    """The file's path in the module."""
    old: str
    """What is there; it has to be there exactly once."""
    new: str
    """What takes its place."""


CREATE_BY_POST = (
    Change(
        file="pkg/await/await.go",
        old="\t\t\tif c.ServerSideApply {\n\t\t\t\tforce := patchForce(c.Inputs, nil, c.Preview)\n",
        # A Patch resource is made for objects that exist, so it is applied under either rule.
        new="\t\t\tupserts := UpsertExistingObjects || kinds.IsPatchResource(c.URN, c.Inputs.GetKind())\n"
        "\t\t\tif c.ServerSideApply && upserts {\n"
        "\t\t\t\tforce := patchForce(c.Inputs, nil, c.Preview)\n",
    ),
    Change(
        file="pkg/await/await.go",
        old="\t\t\t\toptions := metav1.CreateOptions{\n\t\t\t\t\tFieldManager: c.FieldManager,\n\t\t\t\t}\n",
        # A field manager's updates and its applies count as two managers, which conflict. An update takes over what
        # the manager of this name has created (fixCSAFieldManagers in the same file).
        new='\t\t\t\toptions := metav1.CreateOptions{\n\t\t\t\t\tFieldManager: "pulumi-kubernetes",\n\t\t\t\t}\n',
    ),
    Change(
        file="pkg/await/await.go",
        old="type CreateConfig struct {\n",
        new="// UpsertExistingObjects is the setting of that name of the one provider in this process.\n"
        "var UpsertExistingObjects bool\n\ntype CreateConfig struct {\n",
    ),
    Change(
        file="pkg/provider/provider.go",
        old="\tenableConfigMapMutable := func() bool {\n",
        new='\tupsert, isSet := vars["kubernetes:config:upsertExistingObjects"]\n'
        "\tif !isSet {\n"
        '\t\tupsert = os.Getenv("PULUMI_K8S_UPSERT_EXISTING_OBJECTS")\n'
        "\t}\n"
        "\tawait.UpsertExistingObjects = upsert == trueStr\n\n"
        "\tenableConfigMapMutable := func() bool {\n",
    ),
)
"""The rule of release 4.29 and newer for creating objects, with the setting that takes it back."""


def changed_copy(source: Path, target: Path, changes: Sequence[Change]) -> None:
    """Copy a Go module's source to `target`, with some changes.

    Raises:
        BuildError: The text of a change is not in its file exactly once, so the module is not the one it was made for.
    """
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for change in changes:
        path = target / change.file
        text = path.read_text()
        if text.count(change.old) != 1:
            found = text.count(change.old)
            raise BuildError(f"{source / change.file} has this text {found} times instead of once:\n{change.old}")
        path.write_text(text.replace(change.old, change.new))
