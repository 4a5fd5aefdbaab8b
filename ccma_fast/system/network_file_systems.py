"""Whether a file lies on a file system that several machines may have mounted."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["network_file_system"]

_MOUNTS = Path("/proc/self/mountinfo")

# As Linux calls them. Of those mounted by FUSE, the ones that are known to be shared.
_SHARED = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|virtiofs|ceph|lustre|gpfs|beegfs(_nodev)?|glusterfs|afs|ocfs2|gfs2|orangefs|pvfs2|wekafs|"
    r"panfs|fuse\.(sshfs|glusterfs|ceph-fuse|s3fs|gcsfuse|blobfuse2?|rclone|juicefs|mount-s3|cvmfs2?|cephfs|lustre)"
)

_OCTAL = re.compile(r"\\([0-7]{3})")


def network_file_system(path: str | os.PathLike[str], mounts: Path = _MOUNTS) -> str | None:
    """The kind of network file system that a path lies on; None where it lies on none, or nobody can say.

    Parameters
    ----------
    path : path
        Need not exist.
    mounts : Path
        The mounts of this process, as Linux lists them. Other systems have no such file.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    place = Path(os.path.realpath(path))
    longest, kind = -1, ""
    for line in lines:
        fields, _, of_file_system = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields.split(" ")[4]))
        # Of mounts at one point the last one hides those before it.
        if place.is_relative_to(point) and len(point.parts) >= longest:
            longest, kind = len(point.parts), of_file_system.split(" ")[0]
    return kind if _SHARED.fullmatch(kind) else None
