"""The images that the names in a label file mean."""

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from unicodedata import normalize

from captchabench.labels.tables import has_image_suffix


class ImageIndex:
    """Finds images by names that are relative to the label file, to the root of the set, or to a folder elsewhere.

    Names are compared in NFC, with suffixes in lower case.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = [_key(path) for path in paths]
        self._whole: dict[str, list[int]] = defaultdict(list)
        self._tails: dict[str, list[int]] = defaultdict(list)
        for index, path in enumerate(self.paths):
            for form in (path, _bare(path)):
                self._whole[form].append(index)
                for tail in _tails(form):
                    self._tails[tail].append(index)

    def find(self, names: Sequence[str], folder: str) -> list[list[int]]:
        """The indices of the images that each name means: one if all is well, none, or several.

        folder: that of the label file. All names are read the same way, so that the name of a missing image is not
        taken for an image of the same name in another folder.
        """
        keys = [_key(name) for name in names]
        best: list[list[int]] = [[] for _ in names]
        found = 0
        for way in self._ways(keys, _key(folder)):
            hits = [way(key) if key else [] for key in keys]
            matched = sum(map(bool, hits))
            # A looser way must find far more.
            if matched > 2 * found:
                best, found = hits, matched
            if found == len(names):
                break
        return best

    def _ways(self, keys: Sequence[str], folder: str) -> Iterator[Callable[[str], list[int]]]:
        """The ways to read names, the strictest first."""
        depth = max((key.count("/") for key in keys), default=0)
        for form in (str, _bare):

            def beside(key: str, form: Callable[[str], str] = form) -> list[int]:
                return self._whole.get(form(posixpath.normpath(posixpath.join(folder, key))), [])

            def at_root(key: str, form: Callable[[str], str] = form) -> list[int]:
                return self._whole.get(form(key), [])

            yield beside
            yield at_root
            for dropped in range(depth + 1):

                def within(key: str, form: Callable[[str], str] = form, dropped: int = dropped) -> list[int]:
                    tail = "/".join(key.split("/")[min(dropped, key.count("/")) :])
                    hits = self._tails.get(form(tail), [])
                    inside = [hit for hit in hits if self.paths[hit].startswith(f"{folder}/")]
                    return inside if len(hits) > 1 and inside else hits

                yield within


def _key(path: str) -> str:
    path = normalize("NFC", path.strip()).replace("\\", "/")
    while path.startswith("./"):
        path = path[2:]
    if not has_image_suffix(path):
        return path
    head, suffix = posixpath.splitext(path)
    return head + suffix.lower()


def _bare(key: str) -> str:
    """A key without the suffix of an image."""
    return posixpath.splitext(key)[0] if has_image_suffix(key) else key


def _tails(path: str) -> Iterator[str]:
    """`path` without none, one, two ... of its first folders."""
    yield path
    while "/" in path:
        path = path.partition("/")[2]
        yield path
