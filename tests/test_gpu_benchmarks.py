"""What is read out of programs compiled for a GPU that is not there, and how it is added up."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks import gpu_compile, hlo, limit, scaling_model
from benchmarks.hlo import Kernel

# The shapes of an update as XLA writes them for a GPU, cut down to one of each kind.
MODULE = """\
HloModule jit_advance, is_scheduled=true

%fused_dot (param_0: f32[64,128], param_1: f32[128,10]) -> f32[64,10] {
  %param_0 = f32[64,128]{1,0} parameter(0)
  %param_1 = f32[128,10]{1,0} parameter(1)
  ROOT %dot.1 = f32[64,10]{1,0} dot(%param_0, %param_1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%fused_gather (param_0: u8[60000,784], param_1: s32[]) -> u8[64,784] {
  %param_0 = u8[60000,784]{1,0} parameter(0)
  %param_1 = s32[] parameter(1)
  ROOT %slice = u8[64,784]{1,0} dynamic-slice(%param_0, %param_1), dynamic_slice_sizes={64,784}
}

%body (arg: (s32[], f32[64,128], f32[128,10], /*index=3*/u8[60000,784])) -> (s32[], f32[64,128]) {
  %arg = (s32[], f32[64,128]{1,0}, f32[128,10]{1,0}, /*index=3*/u8[60000,784]{1,0}) parameter(0)
  %step = s32[] get-tuple-element(%arg), index=0
  %x = f32[64,128]{1,0} get-tuple-element(%arg), index=1
  %w = f32[128,10]{1,0} get-tuple-element(%arg), index=2
  %data = u8[60000,784]{1,0} get-tuple-element(%arg), index=3
  %gathered = u8[64,784]{1,0} fusion(%data, %step), kind=kLoop, calls=%fused_gather
  %product = f32[64,10]{1,0} fusion(%x, %w), kind=kCustom, calls=%fused_dot, metadata={op_name="a(%b)"}
  %image = f32[64,14,14,4]{3,2,1,0} bitcast(%x)
  %kernel = f32[16,3,3,4]{3,2,1,0} bitcast(%w)
  %conv = (f32[64,12,12,16]{3,2,1,0}, u8[0]{0}) custom-call(%image, %kernel), window={size=3x3}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %dy = f32[64,12,12,16]{3,2,1,0} get-tuple-element(%conv), index=0
  %dx = (f32[64,14,14,4]{3,2,1,0}, u8[0]{0}) custom-call(%dy, %kernel), window={size=3x3}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %dw = (f32[16,3,3,4]{3,2,1,0}, u8[0]{0}) custom-call(%image, %dy), window={size=3x3}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
  %copied = f32[128,10]{1,0} copy(%w)
  ROOT %out = (s32[], f32[64,128]{1,0}) tuple(%step, %x)
}

ENTRY %main (p: s32[]) -> s32[] {
  %p = s32[] parameter(0)
  %while = (s32[], f32[64,128]{1,0}) while(%p), condition=%cond, body=%body, \
backend_config={"known_trip_count":{"n":"938"},"known_init_step":{"init":"0","step":"1"}}
  ROOT %end = s32[] get-tuple-element(%while), index=0
}
"""


@pytest.fixture
def launched() -> dict[str, Kernel]:
    found, turns = hlo.launched(MODULE, rows=60_000)
    assert turns == 938
    return {kernel.name: kernel for kernel in found}


def test_only_what_is_launched_counts(launched: dict[str, Kernel]):
    kinds = {name: kernel.kind for name, kernel in launched.items()}
    cudnn = {"conv": "cudnn", "dx": "cudnn", "dw": "cudnn"}
    assert kinds == {"gathered": "fusion", "product": "product", "copied": "copy"} | cudnn


def test_operations_of_a_product(launched: dict[str, Kernel]):
    assert launched["product"].operations == 2 * 64 * 128 * 10
    assert launched["gathered"].operations == launched["copied"].operations == 0


@pytest.mark.parametrize("direction", ["conv", "dx", "dw"])
def test_a_convolution_costs_the_same_in_all_directions(launched: dict[str, Kernel], direction: str):
    assert launched[direction].operations == 2 * 64 * 12 * 12 * 9 * 4 * 16


def test_bytes_are_operands_and_results(launched: dict[str, Kernel]):
    assert launched["copied"].bytes == 2 * 4 * 128 * 10
    assert launched["product"].bytes == 4 * (64 * 128 + 128 * 10 + 64 * 10)


def test_of_the_data_set_only_what_is_gathered_counts(launched: dict[str, Kernel]):
    assert launched["gathered"].bytes == 2 * 64 * 784 + 4


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("f32[]", 4), ("pred[3]{0}", 3), ("bf16[2,3]{1,0}", 12), ("f8e4m3fn[5]{0}", 5), ("token[]", 0),
     ("s4[3]{0}", 2), ("(s32[2]{0}, /*index=1*/u8[0]{0}, (f64[], u16[2]{0}))", 20)],
)  # fmt: skip
def test_size_of_a_shape(shape: str, expected: int):
    assert hlo.size(shape) == expected


def test_exchanges_and_what_goes_on_meanwhile():
    text = """\
%fused_sum (param_0.1: f32[]) -> f32[] {
  %param_0.1 = f32[] parameter(0)
  ROOT %all-reduce.1 = f32[] all-reduce(%param_0.1), channel_id=1, to_apply=%add
}

%body (arg: (f32[10], f32[])) -> f32[10] {
  %arg = (f32[10]{0}, f32[]) parameter(0)
  %g = f32[10]{0} get-tuple-element(%arg), index=0
  %n = f32[] get-tuple-element(%arg), index=1
  %sum-start = ((f32[]), f32[]) fusion-start(%n), kind=kCustom, calls=%fused_sum
  %copied = f32[10]{0} copy(%g)
  %sum-done = f32[] fusion-done(%sum-start)
  %start = ((f32[10]{0}), f32[10]{0}) all-reduce-start(%copied), channel_id=2, to_apply=%add
  %meanwhile = f32[] get-tuple-element(%arg), index=1
  %done = f32[10]{0} all-reduce-done(%start)
  ROOT %plain = f32[20]{0} all-gather(%done), dimensions={0}
}
"""
    assert hlo.collectives(hlo.computations(text), "body") == [
        hlo.Collective("all-reduce", 4, True, 1),
        hlo.Collective("all-reduce", 40, True, 0),
        hlo.Collective("all-gather", 80, False, 0),
    ]


def test_the_model_of_scaling_follows_from_its_assumptions():
    assert scaling_model.allreduce_seconds(10**6, 1) == 0
    within = scaling_model.allreduce_seconds(10**6, 8)
    assert within == pytest.approx(14e-6 + 14 * 1.25e-6 + 2e6 / 450e9)
    assert scaling_model.allreduce_seconds(10**6, 16) - within == pytest.approx(
        17e-6 + 2e6 / 50e9 - 2e6 / 450e9
    )
    compiled = [
        {"batch_size": batch, "compute_seconds": {"middle": seconds}}
        for batch, seconds in ((64, 1e-4), (8192, 1e-3))
    ]
    found = scaling_model.estimate(compiled[0], compiled[1], [{"bytes": 485_416}])
    for kind in ("strong", "weak"):
        shares = [row["efficiency"] for row in found[kind]]
        assert shares[0] == 1
        assert shares == sorted(shares, reverse=True)
        assert found[kind][-1]["gpus"] == 4096


def test_a_loop_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match="how often"):
        hlo.loop(hlo.computations(MODULE.replace("known_trip_count", "unknown")))
    with pytest.raises(ValueError, match="found 0"):
        hlo.loop({})


def test_a_program_of_the_compiler_itself():
    def advance(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 7, lambda _, x: jnp.tanh(x @ w), x)

    shapes = jax.ShapeDtypeStruct((64, 128), jnp.float32), jax.ShapeDtypeStruct((128, 128), jnp.float32)
    module = hlo.computations(jax.jit(advance).lower(*shapes).compile().as_text() or "")
    body, trips = hlo.loop(module)
    launched = hlo.kernels(module, body, rows=1000)
    assert trips == 7
    assert sum(kernel.operations for kernel in launched) == 2 * 64 * 128 * 128


def test_rates_come_from_the_description():
    text = """\
gpu_device_info {
  core_count: 132
  fpus_per_core: 128
  memory_bandwidth: 3352320000000
  clock_rate_ghz: 1.98
  scalar_unit_description {
    rate_infos {
      value {
        clock_rate_ghz: 5
      }
    }
  }
}
"""
    bandwidth, rate = gpu_compile.rates(text)
    assert bandwidth == 3.35232e12
    assert rate == pytest.approx(66.9e12, rel=1e-3)


def test_a_step_is_the_sum_of_its_kernels():
    launched = [Kernel("memory", "fusion", 1000, 0), Kernel("arithmetic", "cudnn", 10, 10_000)]
    assert gpu_compile.step_seconds(launched, bandwidth=1e3, rate=1e3, launch=0.5) == pytest.approx(12)


def test_a_step_that_does_nothing_but_copy_has_the_memorys_bandwidth():
    kernel = Kernel("copied", "copy", 2 * 2**30, 0)
    found = limit.on_gpu([kernel, kernel], step=[4.0, 4.0], bandwidth=[2.0**30, 2.0**30])
    assert found["kernels"] == {"copy": 2}
    assert found["bandwidth"]["mean"] == 2**30
    assert found["share_of_bandwidth"] == 1.0


def test_memory_is_read_and_written_on_any_device():
    assert limit.timed(limit.copying(mebibytes=1, times=3)) > 0


def test_each_product_is_of_the_one_before():
    matrix = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    powers = [np.linalg.matrix_power(matrix, times + 1) for times in (1, 3)]
    for times, power in zip((1, 3), powers, strict=True):
        np.testing.assert_allclose(limit.multiplied(jnp.asarray(matrix), times), power, rtol=1e-4, atol=1e-4)
    assert limit.Sizes(8, 3, layer_turns=1, updates=1).operations == 3 * 2 * 8**3


def test_a_description_is_found_in_the_library(tmp_path):
    library = tmp_path / "plugin.so"
    one, two = (f'gpu_device_info {{\n}}\ndevice_description_str: "{name}"\n' for name in ("One", "Two"))
    library.write_bytes(b"\x7fELF\0# a comment\n" + one.encode() + b"\0\0# another\n" + two.encode() + b"\0")
    assert gpu_compile.description(library, "Two") == two
    with pytest.raises(ValueError, match="Three"):
        gpu_compile.description(library, "Three")


@pytest.mark.skipif(gpu_compile.plugin() is not None, reason="the compiler for GPUs is here")
def test_without_the_compiler_it_says_so():
    command = [sys.executable, "-m", "benchmarks.gpu_compile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == bench.LEFT_OUT
    assert done.stdout.count("\n") == 1
    assert "jax[cuda13]" in done.stdout
