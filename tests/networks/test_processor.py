"""The record of the processor and the libraries."""

from pathlib import Path

import pytest

from captchabench.networks import processor


def test_the_vector_instructions_of_the_first_core_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = tmp_path / "cpuinfo"
    one = "model name\t: Some Processor\nflags\t\t: fpu sse2 fma avx2 avx avx512_bf16 amx_tile bmi2\n"
    described.write_text(one + "\n" + one.replace("Some", "Another"))
    monkeypatch.setattr(processor, "_PROC", described)
    assert processor.processor() == "Some Processor"
    assert processor.instructions() == "amx_tile avx avx2 avx512_bf16 fma"


def test_of_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = tmp_path / "cpuinfo"
    described.write_text("processor\t: 0\nFeatures\t: fp asimd evtstrm sve bf16 i8mm\n")
    monkeypatch.setattr(processor, "_PROC", described)
    assert processor.instructions() == "asimd bf16 i8mm sve"


def test_without_proc_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_PROC", tmp_path / "none")
    assert processor.processor()
    assert processor.instructions() == ""


def test_versions_of_installed_packages_only() -> None:
    listed = processor.library_versions(("numpy", "no-such-package-as-this"))
    assert listed.startswith("numpy ")
    assert "," not in listed
