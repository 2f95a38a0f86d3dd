"""How the arithmetic runs on this machine."""

from pathlib import Path

import msgspec
import pytest
import torch

from builders.rig import small_federation
from segviz_exchange.contract.choices import Precision
from segviz_trainer.network.device import Device

CPUINFO = Path("/proc/cpuinfo")
AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
"""What oneDNN asks of an x86 processor before it computes in BF16."""


def device(precision: Precision) -> Device:
    training = msgspec.structs.replace(small_federation().training, precision=precision)
    return Device(torch.device("cpu"), training)


def test_bf16_is_computed_where_the_processor_has_instructions_for_it_and_fp32_elsewhere() -> None:
    flags = [line for line in CPUINFO.read_text(encoding="utf-8").splitlines() if line.startswith("flags")]
    if not flags:
        pytest.skip("needs Linux on an x86 processor, whose flags /proc/cpuinfo lists")
    has_instructions = set(flags[0].split()) >= AVX512
    if not has_instructions and "avx_ne_convert" in flags[0]:
        pytest.skip(
            "needs a processor of which all versions of torch say the same; some count AVX-NE-CONVERT"
        )
    asked = device(Precision.BF16)
    with asked.autocast():
        computed = torch.ones(2, 2) @ torch.ones(2, 2)
    assert computed.dtype is (torch.bfloat16 if has_instructions else torch.float32)
    assert asked.environment().precision == ("BF16" if has_instructions else "FP32")


def test_fp32_is_computed_wherever_it_is_asked_for() -> None:
    asked = device(Precision.FP32)
    with asked.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32
    assert asked.environment().precision == "FP32"
