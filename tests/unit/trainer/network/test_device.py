"""How the arithmetic runs on this machine."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch

from builders.rig import small_federation
from segviz_exchange.contract.choices import Determinism, MemoryFormat, Precision, Tf32
from segviz_trainer.network.device import Device
from segviz_trainer.network.segnet import build

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


@pytest.mark.parametrize(
    ("able", "asked", "computed"),
    [
        (True, Precision.BF16, Precision.BF16),
        (False, Precision.BF16, Precision.FP32),
        (True, Precision.FP32, Precision.FP32),
    ],
)
def test_a_gpu_computes_in_bf16_if_it_can_without_emulation(
    able: bool, asked: Precision, computed: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a card says of itself is put in here; tests/integration/test_gpu.py asks a real one."""

    def supported(*, including_emulation: bool) -> bool:
        return including_emulation or able

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    there = Device(torch.device("cuda"), device(asked).training)
    assert there.precision is computed


@pytest.mark.parametrize(
    ("asked", "layout"),
    [
        (MemoryFormat.CHANNELS_LAST_3D, torch.channels_last_3d),
        (MemoryFormat.CONTIGUOUS, torch.contiguous_format),
    ],
)
def test_weights_and_images_lie_in_memory_as_the_manifest_says(
    asked: MemoryFormat, layout: torch.memory_format
) -> None:
    spec = small_federation()
    training = msgspec.structs.replace(spec.training, memory_format=asked)
    here = Device(torch.device("cpu"), training)
    net = here.move(build(spec, ("liver",)))
    kernels = [value for value in net.parameters() if value.dim() == 5 and min(value.shape[1:]) > 1]
    assert kernels
    assert all(value.is_contiguous(memory_format=layout) for value in kernels)
    assert here.place(torch.zeros(2, 3, 4, 5, 6)).is_contiguous(memory_format=layout)


@pytest.fixture
def _settled() -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (
        torch.get_num_threads(),
        torch.get_deterministic_debug_mode(),
        matmul.allow_tf32,
        cudnn.allow_tf32,
    )
    yield
    torch.set_num_threads(before[0])
    torch.set_deterministic_debug_mode(before[1])
    matmul.allow_tf32, cudnn.allow_tf32 = before[2:]


@pytest.mark.usefixtures("_settled")
@pytest.mark.parametrize("tf32", [Tf32.ALLOWED, Tf32.DISABLED])
def test_tf32_is_what_the_manifest_says(tf32: Tf32) -> None:
    training = msgspec.structs.replace(small_federation().training, tf32=tf32)
    Device(torch.device("cpu"), training).settle()
    assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is (tf32 is Tf32.ALLOWED)


@pytest.mark.usefixtures("_settled")
def test_left_out_tf32_is_torchs_own_choice() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    Device(torch.device("cpu"), small_federation().training).settle()
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


@pytest.mark.usefixtures("_settled")
@pytest.mark.parametrize(
    ("place", "asked", "mode"),
    [
        ("cuda", None, 1),
        ("cuda", Determinism.STRICT, 2),
        ("cuda", Determinism.FASTEST, 0),
        ("cpu", None, 2),
        ("cpu", Determinism.FASTEST, 2),
    ],
)
def test_on_a_cpu_all_is_deterministic_and_on_a_gpu_what_is_asked_for(
    place: str, asked: Determinism | None, mode: int
) -> None:
    """torch's modes: 0 any way, 1 a warning where there is no deterministic one, 2 an error."""
    training = msgspec.structs.replace(small_federation().training, determinism=asked)
    Device(torch.device(place), training).settle()
    assert torch.get_deterministic_debug_mode() == mode
