"""The doctor: what each check says of what it finds, and that none stops another."""

import json
import os
import stat
from pathlib import Path

import pytest

from jaxdigits import doctor, gpu, machine
from jaxdigits.__main__ import main
from jaxdigits.doctor import Finding
from jaxdigits.errors import DataError, DeviceError, StorageError

Capture = pytest.CaptureFixture[str]

NONE = gpu.Gpu((), "", {}, (), "Unknown backend gpu", {})
PLUGIN = {"jax-cuda13-plugin": "0.12.0"}


def test_all_is_well_here_and_nothing_is_written(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    main(["doctor", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_status"] == 0
    assert [check["name"] for check in answer["checks"]] == [name for name, _, _ in doctor.CHECKS]
    for check in answer["checks"]:
        assert check.keys() == {"name", "state", "found", "cure", "exit_status"}
        assert check["state"] in ("ok", "warn"), check
        assert check["found"]
    assert list(tmp_path.iterdir()) == []


def test_for_people_it_is_narrow_and_the_first_bad_class_is_the_status(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    def raises() -> tuple[machine.State, str, str]:
        raise ZeroDivisionError("of a\nbroken \x1b[2J installation")

    def storage() -> tuple[machine.State, str, str]:
        raise StorageError("the [bold]disk[/bold] is gone; " + "long " * 50)

    checks = (
        ("good", lambda: ("ok", "all there", ""), DeviceError),
        ("odd", lambda: ("warn", "not quite", "look at it"), DeviceError),
        ("broken", raises, DataError),
        ("full", storage, DeviceError),
        ("after", lambda: ("ok", "still looked at", ""), DeviceError),
    )
    monkeypatch.setattr(doctor, "CHECKS", checks)
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    output = capsys.readouterr().out
    assert stop.value.code == DataError.exit_status
    assert max(map(len, output.splitlines())) <= 80
    assert "\x1b" not in output
    assert "[bold]disk[/bold]" in output
    for part in ("still looked at", "to do: look at it", "ZeroDivisionError", "2 of 5 checks are bad"):
        assert part in output
    assert [(one.name, one.exit_status) for one in doctor.findings()] == [
        ("good", 0), ("odd", 0), ("broken", 3), ("full", 6), ("after", 0)
    ]  # fmt: skip


def test_the_status_is_of_the_first_that_is_bad():
    found = [Finding("a", "warn", ""), Finding("b", "bad", "", "", 6), Finding("c", "bad", "", "", 3)]
    assert doctor.exit_status(found) == 6
    assert doctor.exit_status(found[:1]) == doctor.exit_status([]) == 0


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("numpy>=1.0", ""),
        ("numpy>=99", "x needs numpy>=99, found "),
        ("numpy<1", "x needs numpy<1, found "),
        ("no-such-package>=1", "x needs no-such-package, which is not installed"),
        ("no-such-package>=1; extra == 'test'", ""),
        ("no-such-package>=1; sys_platform == 'nowhere'", ""),
        ("jax-cuda99-plugin<=1; extra == 'cuda12'", ""),
    ],
)
def test_requirements_are_compared_with_what_is_installed(requirement: str, expected: str):
    found = "".join(doctor.misfits([requirement], "x", set()))
    assert found.startswith(expected)
    assert bool(found) is bool(expected)
    assert not [*doctor.misfits([requirement], "x", {"another"})]


@pytest.mark.parametrize(
    ("changes", "good", "part"),
    [
        ({}, True, "no NVIDIA driver"),
        ({"seen": ("GPU H100",), "driver": "580.1", "plugins": PLUGIN}, True, "GPU H100 (driver 580.1, jax"),
        ({"driver": "580.65.06"}, False, "jaxdigits[cuda13]"),
        ({"driver": "535.1"}, False, "jaxdigits[cuda12]"),
        ({"plugins": PLUGIN}, False, "no NVIDIA driver runs"),
        ({"driver": "580.1", "plugins": PLUGIN, "settings": {"JAX_PLATFORMS": "cpu"}}, False, "unset JAX_"),
        ({"driver": "580.1", "plugins": PLUGIN, "settings": {"CUDA_VISIBLE_DEVICES": ""}}, False, "hides"),
        ({"driver": "535.1", "plugins": PLUGIN}, False, "from 580"),
        ({"driver": "580.1", "plugins": PLUGIN, "missing": ("cudnn",)}, False, "not found: cudnn"),
        ({"driver": "580.1", "plugins": PLUGIN}, False, "JAX says: Unknown backend gpu"),
    ],
)  # fmt: skip
def test_why_a_gpu_is_not_used(changes: dict[str, object], good: bool, part: str):
    found = gpu.explain(NONE._replace(**changes))
    assert found[0] is good
    assert part in " ".join(found[1:])
    assert good or found[2]


def test_the_libraries_of_a_plugin_are_looked_for():
    assert gpu._missing({}) == []
    assert gpu._there("cudnn", "13", {"nvidia-cudnn-cu13"})
    assert gpu._there("cudart", "12", {"nvidia-cuda-runtime-cu12"})
    assert not gpu._there("nosuchlibrary", "13", {"nvidia-cudnn-cu13"})


def test_a_folder_is_judged_by_who_may_write_to_it(tmp_path: Path):
    folder = tmp_path / "cache"
    assert machine.folder_state(folder)[:2] == ("ok", f"{folder}: not there yet")
    folder.mkdir(mode=0o700)
    (folder / "file").write_bytes(bytes(2_000_000))
    state, found, _ = machine.folder_state(folder)
    assert (state, "2.0 MB, mode 0700" in found) == ("ok", True)
    (tmp_path / "file").touch()
    assert machine.folder_state(tmp_path / "file")[0] == "bad"
    if hasattr(os, "getuid"):
        folder.chmod(0o777)
        state, found, cure = machine.folder_state(folder)
        assert (state, stat.S_IMODE(folder.stat().st_mode)) == ("bad", 0o777)
        assert "others may write" in found
        assert "chmod 700" in cure


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="there are no such modes here")
def test_both_folders_of_compiled_programs_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path))
    for folder in ("xla", "programs", "programs/one"):
        (tmp_path / folder).mkdir(mode=0o700)
    state, found, _ = machine.check_compile_cache()
    assert (state, "programs of 1 training" in found) == ("ok", True)
    for folder in ("xla", "programs"):
        (tmp_path / folder).chmod(0o777)
        state, _, cure = machine.check_compile_cache()
        assert (state, cure) == ("bad", f"chmod 700 {tmp_path / folder}")
        (tmp_path / folder).chmod(0o700)


@pytest.mark.parametrize(("value", "state"), [(1, "bad"), (5, "warn"), (10, "ok"), (99, "ok")])
def test_plenty_is_well(value: float, state: str):
    assert machine.enough(value, (2, 10), "found", "cure") == (
        (state, "found", "") if state == "ok" else (state, "found", "cure")
    )
