"""Rules on the path of one image. Each maps it to the label, which can be empty; names are compared in NFC."""

import posixpath
import re
from unicodedata import normalize

from captchabench.sources.archives import IMAGE_SUFFIXES

SEPARATORS = {"underscore": "_", "hyphen": "-", "dot": ".", "space": " "}

# `ab12 (1)` of browsers and Windows, `ab12 copy 2` of macOS, `ab12 - Copy (2)`, `ab12-copy`, `ab12 (another copy)`.
_COPY = re.compile(r"(?:[ _-]*\((?:\d+|(?:[\w ]+ )?copy)\)|[ _-]+copy(?:[ _-]?\d+)?)+$", re.IGNORECASE)
_NUMBER = re.compile(r"\d+[ _.-]+(?=.)")


def stem(path: str) -> str:
    """The file's name without its suffixes and without the mark of a copy."""
    name = normalize("NFC", posixpath.basename(path))
    while posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES:
        name = posixpath.splitext(name)[0]
    return _COPY.sub("", name).strip() or name


def before_first(path: str, separator: str) -> str:
    """The stem up to the first separator; the whole stem if there is none."""
    return stem(path).partition(separator)[0].strip()


def before_last(path: str, separator: str) -> str:
    """The stem up to the last separator; the whole stem if there is none."""
    name = stem(path)
    return name.rpartition(separator)[0].strip() if separator in name else name


def after_last(path: str, separator: str) -> str:
    """The stem after the last separator; the whole stem if there is none."""
    return stem(path).rpartition(separator)[2].strip()


def after_number(path: str) -> str:
    """The stem without a number and separators at its start; the whole stem if it does not start so."""
    return _NUMBER.sub("", stem(path), count=1) if _NUMBER.match(stem(path)) else stem(path)


def folder(path: str) -> str:
    """The name of the folder that holds the image; empty if it is in none."""
    return normalize("NFC", posixpath.basename(posixpath.dirname(path))).strip()
