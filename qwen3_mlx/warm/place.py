"""Where the agent listens, and who is at the other end.

The socket lies in a folder that only its owner can enter, and both sides ask the kernel who the
other one is: an agent answers nobody else, and a client tells nobody else its prompt.
"""

from __future__ import annotations

import os
import socket
import stat
import sys

from qwen3_mlx import places

__all__ = ["PlaceError", "folder", "make_folder", "peer_uid", "problem", "socket_path"]

# sun_path holds 104 bytes on macOS and 108 on Linux, with the zero at its end.
_LONGEST = 103
_NAME = "agent.sock"


class PlaceError(Exception):
    """The folder of the socket is not ours alone."""


def folder() -> str:
    """The agent's own folder: socket, lock and log."""
    stated = os.path.join(places.home(), "agent")
    if len(os.fsencode(os.path.join(stated, _NAME))) <= _LONGEST:
        return stated
    import zlib

    # Too deep for a socket's name. /tmp is sticky, and `problem` refuses a folder of others.
    return f"/tmp/qwen3-mlx-{os.geteuid()}-{zlib.crc32(os.fsencode(stated)):08x}"


def socket_path() -> str:
    """The agent's socket."""
    return os.path.join(folder(), _NAME)


def make_folder() -> str:
    """Make the agent's folder, for its owner only, and return it.

    Raises:
        PlaceError: it is there and belongs to somebody else, or is a link.
        OSError: it cannot be made.
    """
    path = folder()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.islink(path) and os.stat(path).st_uid == os.geteuid():
            os.chmod(path, 0o700)
    found = problem()
    if found:
        raise PlaceError(found)
    return path


def problem() -> str:
    """What is wrong with the agent's folder as a sentence; "" if it is ours alone."""
    path = folder()
    about = os.lstat(path)
    if not stat.S_ISDIR(about.st_mode):
        return f"{path} is not a folder: remove it"
    if about.st_uid != os.geteuid():
        return f"{path} belongs to user {about.st_uid}, not to you: ask its owner to remove it"
    if about.st_mode & 0o077:
        return f"{path} is open to others: run chmod 700 on it"
    return ""


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a Unix socket, as the kernel knows it.

    Raises:
        OSError: the kernel does not say.
    """
    if sys.platform == "linux":
        size = 12  # struct ucred: pid, uid, gid, four bytes each
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return int.from_bytes(credentials[4:8], sys.byteorder)
    # struct xucred of macOS and the BSDs: version, uid, number of groups, groups (sys/ucred.h)
    local_peercred, sol_local, size = 1, 0, 76
    credentials = connection.getsockopt(sol_local, local_peercred, size)
    return int.from_bytes(credentials[4:8], sys.byteorder)
