"""Which control group hierarchies are found in the text of a mountinfo file."""

from pathlib import Path

from local_cluster import cgroups

VERSION_1 = "24 23 0:21 / /sys/fs/cgroup/cpuset rw,relatime shared:1 - cgroup cgroup rw,cpuset\n"
NAMED = "33 23 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n"
HYBRID = "34 23 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup rw\n"
VERSION_2 = "35 23 0:31 / /sys/fs/cgroup rw,nosuid shared:9 master:2 - cgroup2 cgroup2 rw,nsdelegate\n"
OTHER = "23 1 0:20 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n36 23 0:32 / /mnt/cgroup rw - cgroup2 cgroup2 rw\n"


def test_hierarchies_of_both_versions_are_found_and_others_are_not() -> None:
    found = cgroups.parse(OTHER + VERSION_1 + NAMED + HYBRID)
    assert [(str(hierarchy.path), hierarchy.version) for hierarchy in found] == [
        ("/sys/fs/cgroup/cpuset", 1),
        ("/sys/fs/cgroup/systemd", 1),
        ("/sys/fs/cgroup/unified", 2),
    ]
    assert "cpuset" in found[0].options
    assert "cpuset" not in found[1].options


def test_the_one_hierarchy_of_a_version_2_machine_is_found() -> None:
    [found] = cgroups.parse(VERSION_2)
    assert (found.path, found.version) == (Path("/sys/fs/cgroup"), 2)
