"""Where two sides were computed differently by the same program: another processor, precision or library."""

from collections.abc import Mapping

# Arithmetic that is a list of words: only what differs is worth naming.
_LISTS = {"instructions": " ", "libraries": ", "}


def difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """How the arithmetic of two sides differs, as one clause; "" if it does not, or is recorded for one side only."""
    parts = []
    for name in [name for name in old if name in new and old[name] != new[name]]:
        if name in _LISTS:
            first, second = (value.split(_LISTS[name]) for value in (old[name], new[name]))
            only = [", ".join(v for v in one if v not in other) for one, other in ((first, second), (second, first))]
            parts.append(f"{name} {only[0] or 'no others'} -> {only[1] or 'no others'}")
        else:
            parts.append(f"{name} {old[name]} -> {new[name]}")
    return "; ".join(parts)
