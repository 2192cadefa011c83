"""What a folder's file system means for a study."""

import os
from pathlib import Path

import psutil

_NETWORK = {"9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
_NETWORK |= {"fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "vboxsf", "virtiofs"}


def network_file_system(path: Path) -> str | None:
    """The type of the network file system that a path is on; None on a disk of this machine.

    SQLite's locks are unreliable on most of them (https://www.sqlite.org/faq.html#q5), and its WAL
    mode needs one machine.
    """
    place = Path(os.path.realpath(path))
    try:
        disks = psutil.disk_partitions(all=True)
    except OSError:  # the system does not tell
        return None
    found, kind = -1, ""
    for disk in disks:
        point = Path(disk.mountpoint)
        if place.is_relative_to(point) and len(point.parts) >= found:  # of equals the last counts
            found, kind = len(point.parts), disk.fstype
    return kind if kind in _NETWORK else None


def warning_for(path: Path | None) -> str | None:
    """The warning about a study's SQLite file there; None when all is well, or for a server."""
    kind = network_file_system(path.parent) if path is not None else None
    if kind is None:
        return None
    return (
        f"{path} lies on a network file system ({kind}), where SQLite may lose or damage a study "
        "that several machines write to; set --storage to the URL of a database server, or "
        "--studies-dir to a folder on a local disk"
    )
