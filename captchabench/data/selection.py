"""The cut of an archive to a number of images."""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import Literal

from captchabench.data.archives import Archive, Member
from captchabench.data.sources import Entry


class Selected:
    """`images` of an archive: those whose file names hash lowest with `seed`.

    By name and not by place, so that another layout of the same files, or files added, change little.
    """

    def __init__(self, archive: Archive, images: int | Literal["all"], seed: int) -> None:
        self._archive = archive
        self._members = archive.members
        self.available = len(archive.members)
        self.skipped: Mapping[str, int] = dict(archive.skipped)
        if images != "all" and images < self.available:

            def rank(member: Member) -> tuple[bytes, str, int]:
                name = f"{seed}/{PurePosixPath(member.path).name}".encode()
                return blake2b(name, digest_size=16).digest(), member.path, member.position

            kept = set(sorted(archive.members, key=rank)[:images])
            self._members = [member for member in archive.members if member in kept]
        self.total = len(self._members)

    def entries(self) -> Iterator[Entry]:
        """The chosen images, in the archive's order."""
        return self._archive.read(self._members)
