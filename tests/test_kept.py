import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxdigits import cache, compiling, device, kept, programs, train
from jaxdigits import mesh as meshes
from jaxdigits.compiling import Plan
from jaxdigits.kept import Kept
from jaxdigits.presets import resolve

from .conftest import PACKAGED, Described, Python
from .test_training import small_set

FAST: dict[str, Any] = {
    "smoke": True, "data_dir": str(PACKAGED), "channels": (2, 3), "hidden": 8, "plots": False
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_other_cache() -> Iterator[None]:
    """JAX's own cache is not in use: other tests of this process may have begun to use it."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caches after one training. Not to be changed."""
    return tmp_path_factory.mktemp("filled") / "cache"


@pytest.fixture
def place(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the programs, with those of one training in it."""
    if not filled.exists():
        monkeypatch.setenv("JAXDIGITS_CACHE", str(filled))
        trained(filled.parent / "run")
    shutil.copytree(filled, tmp_path / "cache")
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / kept.FOLDER


@pytest.fixture
def first(place: Path, filled: Path) -> Any:
    """The weights of that training."""
    del place
    return weights(filled.parent / "run")


def trained(run: Path, **overrides: Any) -> bytes:
    """The weights that a training leaves, which runs in this folder."""
    fields: dict[str, Any] = FAST | overrides
    train("fast", run_dir=str(run), **fields)
    return weights(run)


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


class CompilingError(Exception):
    """Programs are about to be compiled: those that are kept are not used."""


def no_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_programs(*_: object) -> None:
        raise CompilingError

    monkeypatch.setattr(programs, "compile_programs", compile_programs)


def name(**overrides: Any) -> str:
    config = resolve("fast", **FAST | overrides)
    return Kept(config, Plan(2048, 16, 16, 10), device.select("cpu"))._name


def test_kept_programs_train_to_the_same_bits(place, filled, first, tmp_path, monkeypatch):
    assert len([*place.iterdir()]) == 1
    no_compiling(monkeypatch)
    assert trained(tmp_path / "run") == first
    before, after = (
        json.loads((run / "metrics.jsonl").read_text()) for run in (filled.parent / "run", tmp_path / "run")
    )
    assert {**before, "seconds": 0, "images_per_second": 0} == {**after, "seconds": 0, "images_per_second": 0}


@pytest.fixture
def fixed_counts(monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path) -> dict[str, Any]:
    """Each number of updates has a program of its own, as on a GPU; a training of eight and of four."""
    shutil.rmtree(place)
    for module in (compiling, kept):
        monkeypatch.setattr(module, "one_for_all", lambda *_: False)
    return {"smoke": False, "data_dir": str(small_set(tmp_path)), "batch_size": 25, "epochs": 1.5}


def test_each_number_of_updates_has_its_kept_program(fixed_counts, place, tmp_path, monkeypatch):
    first = trained(tmp_path / "first", **fixed_counts)
    (entry,) = place.iterdir()
    assert {path.name for path in entry.glob("advance*")} == {"advance-8", "advance-4"}
    no_compiling(monkeypatch)
    assert trained(tmp_path / "again", **fixed_counts) == first


def test_a_number_of_updates_that_has_no_kept_program_is_compiled(fixed_counts, tmp_path):
    trained(tmp_path / "run", **fixed_counts)
    config, plan = resolve("fast", **FAST | fixed_counts), Plan(200, 8, 12, 10)
    asked: list[int] = []
    mesh = meshes.make_mesh([device.select("cpu")])
    found = Kept(config, plan, device.select("cpu")).load(mesh, asked.append)  # pyright: ignore
    assert found is not None
    for count in (8, 4, 3):
        found.executor.compile(count)
    assert asked == [3]


def test_another_seed_has_the_same_programs_and_other_weights(place, first, tmp_path, monkeypatch):
    no_compiling(monkeypatch)
    assert trained(tmp_path / "run", seed=1) != first
    assert len([*place.iterdir()]) == 1


def test_with_kept_programs_neither_flax_nor_optax_is_imported(python: Python, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDIGITS_CACHE", str(tmp_path / "cache"))
    tell = (
        "import json, sys, jaxdigits; "
        f"jaxdigits.train('fast', run_dir=sys.argv[1], **{FAST!r}); "
        "print(json.dumps([name in sys.modules for name in ('flax', 'optax', 'jax')]))"
    )
    found = [json.loads(python("-c", tell, tmp_path / run).stdout) for run in ("cold", "warm")]
    assert found == [[True, True, True], [False, False, True]]
    assert weights(tmp_path / "cold") == weights(tmp_path / "warm")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("advance", "missing"),
        ("rate", "short"),
        ("begin", "flipped"),
        ("opt_state.json", "foreign"),
        ("sha256.json", "missing"),
        ("sha256.json", "foreign"),
    ],
)
def test_what_is_damaged_is_not_used(place, tmp_path, monkeypatch, file, damage):
    (entry,) = place.iterdir()
    path = entry / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "short":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    else:
        path.write_bytes(b"[1, 2]")
    no_compiling(monkeypatch)
    with pytest.raises(CompilingError):
        trained(tmp_path / "run")


def test_what_is_damaged_is_made_anew(place, first, tmp_path):
    (entry,) = place.iterdir()
    (entry / "begin").unlink()
    assert trained(tmp_path / "run") == first
    assert cache.intact(entry, ["advance", "begin", "logits", "opt_state.json", "rate"])


def test_the_checksums_of_other_programs_do_not_help_them(place, tmp_path, monkeypatch):
    """What is whole, but no program, is as good as damaged."""
    (entry,) = place.iterdir()
    shutil.rmtree(entry)

    def build(folder: Path) -> None:
        for file in ("advance", "begin", "logits", "rate"):
            (folder / file).write_bytes(b"no program")
        (folder / "opt_state.json").write_text("[]")

    cache.install(entry, build)
    no_compiling(monkeypatch)
    with pytest.raises(CompilingError):
        trained(tmp_path / "run")


def test_all_that_programs_depend_on_is_in_their_name(monkeypatch):
    names = [name(), name(hidden=9), name(learning_rate=0.5), name(stem="tuned"), name(dtype="bfloat16")]
    with monkeypatch.context() as patch:
        patch.setattr(kept, "_source", lambda: "changed")
        names.append(name())
    with monkeypatch.context() as patch:
        patch.setattr(kept, "_processor", lambda: ["another"])
        names.append(name())
    with monkeypatch.context() as patch:
        patch.setattr(kept, "installed", lambda _: "9.9")
        names.append(name())
    with monkeypatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
        names.append(name())
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["jaxdigits.child"], "cores", lambda: 99)
        names.append(name())
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("there", "devices", "possible"),
    [
        (Described("cpu"), 1, True),
        (Described("cpu"), 8, False),
        (Described("gpu", "9.0"), 1, True),
        (Described("gpu", "9.0"), 2, False),
        (Described("gpu", "gfx942"), 1, False),
        (Described("tpu"), 1, False),
    ],
)
def test_programs_are_kept_of_one_cpu_or_one_nvidia_gpu(monkeypatch, there, devices, possible):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    assert Kept.possible(there) == possible


def test_of_a_gpu_the_versions_of_its_compiler_are_in_the_name(monkeypatch):
    plan, config = Plan(2048, 16, 16, 10), resolve("fast", **FAST)
    gpu, cpu = Described("gpu", "9.0"), Described("cpu")

    def version(newer):
        return lambda package: "2" if package == newer else "1"

    names: dict[str, set[str]] = {"gpu": set(), "cpu": set()}
    for package in ("jax-cuda13-plugin", "jax-cuda13-pjrt", "jax-cuda12-pjrt", "nvidia-cublas"):
        monkeypatch.setattr(kept, "installed", version(package))
        for there in (gpu, cpu):
            names[there.platform].add(Kept(config, plan, there)._name)
    assert [len(names[platform]) for platform in ("gpu", "cpu")] == [4, 1]


def test_nothing_else_is_in_their_name(monkeypatch, tmp_path):
    names = {name(), name(seed=7), name(run_dir="x"), name(plots=True), name(checkpoint_seconds=1.0)}
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    assert {name()} == names


def test_where_jax_has_a_cache_in_use_nothing_is_kept_and_what_is_there_is_used(
    place, first, tmp_path, monkeypatch
):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    trained(tmp_path / "other", hidden=9)
    assert len([*place.iterdir()]) == 1
    no_compiling(monkeypatch)
    assert trained(tmp_path / "run") == first


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_the_folder_is_this_users_alone_and_otherwise_not_used(place, first, tmp_path):
    assert place.stat().st_mode & 0o777 == 0o700
    (entry,) = place.iterdir()
    (entry / "advance").unlink()
    place.chmod(0o777)
    assert trained(tmp_path / "run") == first
    assert not (entry / "advance").exists()


def test_those_not_used_for_longest_go(place, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "_MOST", 2)
    (used,) = place.iterdir()
    for age, other in enumerate(("old", "older"), start=1):
        (place / other).mkdir()
        os.utime(place / other, (1e9 - age, 1e9 - age))
    os.utime(used, (1e9 - 9, 1e9 - 9))
    trained(tmp_path / "again")  # which uses it
    trained(tmp_path / "other", hidden=9)
    left = {path.name for path in place.iterdir()}
    assert len(left) == 2
    assert used.name in left
    assert not {"old", "older"} & left
