"""Checksums inside files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captchabench.storage.checksum import UNSEALED, Damaged, check_sealed, flaw, read_sealed, seal, sealed

SOUND = sealed(b"before " + UNSEALED.encode() + b" after")


@given(place=st.integers(0, len(SOUND) - 1), change=st.integers(1, 255))
def test_any_changed_byte_is_found(place: int, change: int) -> None:
    spoiled = bytearray(SOUND)
    spoiled[place] ^= change
    assert flaw(bytes(spoiled))


@pytest.mark.parametrize("spoiled", [SOUND[:-1], SOUND[1:], SOUND + b"x", b"", SOUND[:20]])
def test_missing_and_added_bytes_are_found(spoiled: bytes) -> None:
    assert flaw(spoiled)


def test_a_file_is_sealed_in_its_place_and_damage_names_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before " + UNSEALED.encode() + b" after")
    seal(path)
    assert path.read_bytes() == SOUND
    assert read_sealed(path, "copy it") == SOUND
    check_sealed(path, "copy it")
    path.write_bytes(SOUND.replace(b"after", b"aftEr"))
    with pytest.raises(Damaged, match=r"file: is damaged \(its CRC-32 is [0-9a-f]{8}, not [0-9a-f]{8}\); copy it"):
        check_sealed(path, "copy it")


@pytest.mark.parametrize("before", [0, 1, 5, (1 << 20) - 10, (1 << 20) - 1, 3 << 20])
@pytest.mark.parametrize("after", [0, 1, (1 << 20) - 30, (1 << 20) - 20, (1 << 20) - 5])
def test_the_checksum_is_found_wherever_it_lies(tmp_path: Path, before: int, after: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * before + UNSEALED.encode() + b"y" * after)
    seal(path)
    check_sealed(path, "")
    assert path.read_bytes() == sealed(b"x" * before + UNSEALED.encode() + b"y" * after)
