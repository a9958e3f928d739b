"""A container of the execution environment, without a container runtime and without an image's download.

Its root holds the machine's distribution and this checkout's Python environment in place of what the image
would have, read-only; over it a layer of its own, which is built by the steps of execution-environment.yml.
The checkout, everybody's home and the collections of the Python environment are not there.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .runs import call

HOME = "/home/runner"
COLLECTIONS = "/usr/share/ansible/collections"

# Everything is mounted in a namespace of its own, and gone with its first process.
ENTER = """
set -eu
root=$1 layer=$2 writable=$3 user=$4 prefix=$5 base=$6 collections=$7; shift 7
mount -t tmpfs -o mode=0755 tmpfs "$root"
bind() { # what, where, read-only or not
  mkdir -p "$root$2"
  mount --rbind "$1" "$root$2"
  if [ "$3" = ro ]; then mount -o remount,bind,ro "$root$2"; fi
}
mkdir -p "$root/usr" "$root/proc" "$root/tmp" "$root/root"
if [ "$writable" = yes ]; then
  mount -t overlay overlay -o "lowerdir=/usr,upperdir=$layer/usr,workdir=$layer/work" "$root/usr"
else
  mount -t overlay overlay -o "lowerdir=$layer/usr:/usr" "$root/usr"
fi
for name in bin sbin lib lib64; do
  if [ -L "/$name" ]; then cp -P "/$name" "$root/$name"; fi
  if [ -d "/$name" ] && [ ! -L "/$name" ]; then bind "/$name" "/$name" ro; fi
done
bind /etc /etc ro
bind /dev /dev rw
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
case $base in /usr|/usr/*) ;; *) bind "$base" "$base" ro ;; esac
bind "$prefix" "$prefix" ro
mount -t tmpfs -o ro tmpfs "$root$collections"
mkdir -p -m 0555 "$root$HOME"
while [ "$1" != -- ]; do bind "$1" "$2" "$3"; shift 3; done
shift
if [ "$writable" = no ]; then mount -o remount,ro "$root"; fi
exec chroot --userspec="$user" --groups= "$root" "$@"
"""


@dataclass(frozen=True)
class Volume:
    """A folder of the machine, mounted into the container."""

    folder: Path
    where: str
    writable: bool = True


@dataclass(frozen=True)
class Image:
    """A layer over the machine's distribution.

    :param folder: on a file system that can be a layer of an overlay.
    :param environment: what the image sets (ENV).
    """

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def collections(self) -> Path:
        return self.folder / COLLECTIONS.lstrip("/")

    def build(self, step: str, *volumes: Volume) -> None:
        """Run a step of the image's build (RUN), as root."""
        result = self._call(["sh", "-c", step], 0, True, volumes, {"HOME": "/root"})
        assert result.returncode == 0, result.stdout + result.stderr

    def run(
        self, *command: str, user: int, volumes: tuple[Volume, ...], timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a user that nobody knows, in a home that is empty and cannot be written to."""
        return self._call(list(command), user, False, volumes, {"HOME": HOME, **self.environment}, timeout)

    def _call(
        self,
        command: list[str],
        user: int,
        writable: bool,
        volumes: tuple[Volume, ...],
        environment: Mapping[str, str],
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        for name in ("usr", "work", "root"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        mounts = [word for v in volumes for word in (str(v.folder), v.where, "rw" if v.writable else "ro")]
        words = [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "container"),
            *(self.folder / "root", self.folder, "yes" if writable else "no", f"{user}:{user}"),
            *(sys.prefix, sys.base_prefix, Path(sysconfig.get_path("purelib")) / "ansible_collections"),
            *(*mounts, "--", *command),
        ]
        path = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return call(*words, timeout=timeout, cwd="/", env={"PATH": path, "LANG": "C.UTF-8", **environment})
