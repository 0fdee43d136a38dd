"""What keeps a machine from running the cluster is said before anything is built, each with its way out."""

import os
import platform
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from local_cluster import cgroups, host_machine, programs, rootfs
from local_cluster.errors import ClusterError
from local_cluster.paths import LOCAL

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is fit, whatever this one is."""
    for name in ("DEBIAN_MIRROR", "GOCACHE", "GOMODCACHE", "GOPATH", "PRIVATE_REGISTRY_LOCAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2 * 2**20}.__getitem__)
    monkeypatch.setattr(host_machine, "has_capability", lambda _bit: True)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, 21 * 2**30))
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "debian"})
    monkeypatch.setattr(cgroups, "hierarchies", lambda: ["one"])


def test_a_fit_machine_has_nothing_to_say() -> None:
    assert host_machine.unfit(built=False) == []


def test_another_system_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    [said] = host_machine.unfit(built=False)
    assert "needs Linux, this is darwin" in said
    assert "make up CONTEXT=NAME" in said


def test_every_reason_is_said_at_once_and_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**20}.__getitem__)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, 3 * 2**30))
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "ubuntu", "NAME": "Ubuntu"})
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [])
    monkeypatch.setattr(programs, "are_built", lambda _groups: True)
    monkeypatch.setattr(rootfs, "install", lambda *_packages: pytest.fail("something is installed"))
    with pytest.raises(ClusterError) as caught:
        host_machine.check()
    said = str(caught.value).splitlines()
    parts = [
        "cannot run",
        "root, this is user 1000: use sudo",
        "this is Ubuntu: give the address of one, such as make up DEBIAN_MIRROR=",
        "5 GiB of disk for nodes and tests, and",
        "8 GiB of memory, and there are 4.0",
        "No cgroup hierarchy",
    ]
    assert len(said) == len(parts)
    for line, part in zip(said, parts, strict=True):
        assert part in line


def test_with_a_debian_mirror_ubuntu_is_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "ubuntu", "NAME": "Ubuntu"})
    monkeypatch.setenv("DEBIAN_MIRROR", "https://mirror.example.com/debian")
    assert host_machine.unfit(built=False) == []
    assert rootfs.debian_mirror.__wrapped__() == "https://mirror.example.com/debian"


def test_to_build_takes_more_disk_than_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, 10 * 2**30))
    assert host_machine.unfit(built=True) == []
    [said] = host_machine.unfit(built=False)
    assert f"It needs 20 GiB of disk to build its programs, and {LOCAL} and " in said
    assert "PRIVATE_REGISTRY_LOCAL to a folder with more" in said


def test_the_disk_of_go_s_caches_counts_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"LOCAL": "/proc", "GOCACHE": str(tmp_path), "GOMODCACHE": "/sys"}
    free = {"/proc": 6, str(tmp_path): 10, "/sys": 1}
    monkeypatch.setattr(host_machine, "LOCAL", Path(places["LOCAL"]))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free[str(path)] * 2**30))
    monkeypatch.setenv("GOCACHE", places["GOCACHE"])
    monkeypatch.setenv("GOMODCACHE", places["GOMODCACHE"])
    assert host_machine.unfit(built=True) == []
    [said] = host_machine.unfit(built=False)
    assert "It needs 6 GiB of disk to build its programs, and /sys has 1: free some, or set GOMODCACHE to" in said
    monkeypatch.delenv("GOMODCACHE")
    monkeypatch.setenv("GOPATH", "/sys")
    [said] = host_machine.unfit(built=False)
    assert "/sys/pkg/mod has 1: free some, or set GOMODCACHE to" in said


def test_mount_points_have_spaces_and_backslashes() -> None:
    table = "overlay /a\\040b/tree\\134 overlay rw 0 0\nproc /proc proc rw 0 0\n"
    assert host_machine.mount_points(table) == [Path("/a b/tree\\"), Path("/proc")]
    assert Path("/proc") in host_machine.mounts()
