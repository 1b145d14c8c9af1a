import io
from pathlib import Path

import jax
import pytest

from jaxdigits import processor
from jaxdigits.network_forms import fastest
from tests.conftest import Described

TOLD = """\
processor\t: 0
model name\t: Some Kind of CPU
flags\t\t: fpu avx2 amx_bf16

processor\t: 1
flags\t\t: other
"""


@pytest.fixture
def told(monkeypatch):
    """Has the system tell something else of the processor, or nothing."""

    def tell(text):
        def opened(self, *_, **__):
            if text is None:
                raise FileNotFoundError(self)
            return io.StringIO(text)

        monkeypatch.setattr(Path, "open", opened)

    processor.described.cache_clear()
    yield tell
    processor.described.cache_clear()


def test_the_first_of_several_is_described(told):
    told(TOLD)
    assert processor.described()["model name"] == "Some Kind of CPU"
    assert processor.instruction_sets() == {"fpu", "avx2", "amx_bf16"}
    assert processor.multiplies_bfloat16()
    assert processor.has_matrix_unit()


@pytest.mark.parametrize(("vendor", "faster"), [("AuthenticAMD", True), ("GenuineIntel", False)])
def test_instructions_are_no_matrix_unit_and_faster_on_an_amd_alone(told, vendor, faster):
    told(f"vendor_id : {vendor}\nflags : avx512f avx512_bf16\n")
    assert processor.multiplies_bfloat16() == faster
    assert not processor.has_matrix_unit()


def test_a_matrix_unit_is_faster_whoever_made_it(told):
    told("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16 amx_bf16\n")
    assert processor.multiplies_bfloat16()
    assert processor.has_matrix_unit()


@pytest.mark.parametrize("text", [None, "", "no field\n", "flags : avx512f\n", "Features : bf16 fp\n"])
def test_where_nothing_is_told_there_is_neither(told, text):
    told(text)
    assert not processor.multiplies_bfloat16()
    assert not processor.has_matrix_unit()


@pytest.mark.parametrize("unit", [False, True])
def test_one_cpu_that_is_faster_in_bfloat16_multiplies_in_it(monkeypatch, unit):
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: unit)
    monkeypatch.setattr(processor, "has_matrix_unit", lambda: True)
    cpu, fewer = Described("cpu"), ("rowwise" if jax.__version_info__ >= (0, 12) else "winograd", "float32")
    assert fastest(cpu, (16, 64)) == (("columns", "bfloat16") if unit else fewer)
    assert fastest(cpu, (16, 64), "float32") == fewer
    assert fastest(cpu, (16, 64), "bfloat16") == ("columns", "bfloat16")
    assert fastest(cpu, (24, 32), "bfloat16") == ("blocks", "bfloat16")
    assert fastest(cpu, (16, 64), "bfloat16", learning=False) == ("blocks", "bfloat16")
    assert fastest(cpu, (16, 64), "float32", learning=False) == fewer
    assert fastest(cpu, (4, 8), "float32") == ("patches", "float32")
    for devices in (2, 8):
        assert fastest(cpu, (16, 64), devices=devices) == ("patches", "float32")


@pytest.mark.parametrize("learning", [False, True])
def test_without_a_matrix_unit_no_cpu_multiplies_with_zeros(monkeypatch, learning):
    monkeypatch.setattr(processor, "has_matrix_unit", lambda: False)
    for channels in ((24, 32), (16, 64)):
        form = fastest(Described("cpu"), channels, "bfloat16", learning=learning)
        assert form == ("columns", "bfloat16")


@pytest.mark.parametrize(
    ("capability", "unit"), [("9.0", True), ("8.0", True), ("10.0", True), ("7.5", False), ("gfx942", False)]
)
def test_one_gpu_with_a_unit_for_it_multiplies_in_bfloat16(capability, unit):
    gpu = Described("gpu", capability)
    assert fastest(gpu, (16, 64)) == (("columns", "bfloat16") if unit else ("patches", "float32"))
    assert fastest(gpu, (16, 64), learning=False) == fastest(gpu, (16, 64))
    assert fastest(gpu, (16, 64), "float32") == ("patches", "float32")
    assert fastest(gpu, (16, 64), devices=8) == ("patches", "float32")
    assert fastest(gpu, (16, 64), "bfloat16", devices=8) == ("patches", "bfloat16")


def test_other_accelerators_are_left_to_their_own_convolutions():
    assert fastest(Described("tpu"), (16, 64)) == ("direct", "float32")
