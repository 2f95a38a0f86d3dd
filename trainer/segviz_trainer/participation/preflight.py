"""What can be known before a site trains: data, disk, the way to the store, the clock, the GPU.

What will fail in the night is better said in the first minute. Findings are a record, so that people see them
from where they are; an error refuses the site.
"""

import contextlib
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
from pathlib import Path

import msgspec

from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import Role
from segviz_exchange.contract.ledger import commit
from segviz_exchange.contract.limits import beyond, too_little
from segviz_exchange.contract.progress import Finding, Preflight, Severity
from segviz_exchange.contract.records import Control
from segviz_exchange.contract.sharing import shared_by
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.words import plain
from segviz_exchange.stores.store import AlreadyExists, Store
from segviz_trainer.data.dataset import find_all
from segviz_trainer.data.layouts import Case
from segviz_trainer.data.opened import native_grid
from segviz_trainer.data.splits import split_cases
from segviz_trainer.network import segnet as network
from segviz_trainer.participation.limits import round_of
from segviz_trainer.process.errors import BadCase, Unfit, outside
from segviz_trainer.process.site import Site

log = logging.getLogger(__name__)

PROBE_BYTES = 1 << 20
SKEW_SECONDS = 60
"""Of which people are warned. S3 stores refuse requests from about 15 minutes on."""
_SCRATCH_BYTES = 256 << 20
_SLOW_SECONDS = 300
_GIB = 1 << 30
# image float32, label uint8, and a tenth for the foreground's indices and the packed native label.
_CACHE_BYTES_PER_VOXEL = 5.5
# A checkpoint holds the model and Adam's two moments; four of them may lie side by side, with one model
# that comes and one that goes.
_MODELS_ON_DISK = 4 * 3 + 2
_GPU_FREE_BYTES = 2 << 30


@dataclass(frozen=True)
class Facts:
    """What the checks look at."""

    store: Store
    """The federation's, as this site's credentials reach it."""
    site: Site
    control: Control
    model_bytes: int
    private_bytes: int
    """Of the model, what is not shared: it is kept for every round."""
    found: tuple[Case, ...] | Refusal
    """Every case of the site, or why there are none."""


def examine(store: Store, site: Site, control: Control, lease: int) -> None:
    """Check, leave the findings as a record, warn in the log.

    Raises:
        Unfit: there is an error among them.
    """
    facts = Facts(store, site, control, *_model_bytes(control, site), _find(site))
    findings = tuple(
        msgspec.structs.replace(finding, message=plain(finding.message))
        for check in CHECKS
        for finding in check(facts)
    )
    commit(store, keys.preflight(site.alias, lease), Preflight(lease, findings))
    for finding in findings:
        if finding.severity is not Severity.ERROR:
            level = logging.WARNING if finding.severity is Severity.WARNING else logging.INFO
            log.log(level, "preflight: %s: %s", finding.check, finding.message)
    if errors := [finding for finding in findings if finding.severity is Severity.ERROR]:
        told = [f"{finding.check}: {finding.message}" for finding in errors]
        # At the site itself, with the files' names.
        named = [
            f"Data: {facts.found}" if finding.check == "Data" and isinstance(facts.found, Refusal) else said
            for finding, said in zip(errors, told, strict=True)
        ]
        raise Unfit("; ".join(named), "; ".join(told))


def _find(site: Site) -> tuple[Case, ...] | Refusal:
    try:
        return find_all(site)
    except Refusal as refusal:
        return refusal


def check_limits(facts: Facts) -> Iterator[Finding]:
    """What the owner has agreed to, by what the site itself sees: a control says what is to be trained."""
    limits, spec, site = facts.site.spec.limits, facts.control.spec, facts.site.spec
    found = list(beyond(limits, spec))
    if site.role is Role.TRAINING and not isinstance(facts.found, Refusal):
        with contextlib.suppress(Refusal):  # which preparing says in better words
            found += too_little(
                limits, *round_of(spec, split_cases(facts.found, site.split, spec.seed).train)
            )
    if found:
        what = f"{'; '.join(found)}. Change the federation, or ask the site's owner"
        yield Finding("Limits", Severity.ERROR, what)


def check_data(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.found, Refusal):
        told = outside(facts.found, (facts.site.data_root, facts.site.state))
        yield Finding("Data", Severity.ERROR, told)
        return
    size = sum(path.stat().st_size for case in facts.found for path in case.files())
    yield Finding("Data", Severity.INFO, f"{len(facts.found)} cases, {_gib(size)}")


def check_disk(facts: Facts) -> Iterator[Finding]:
    state = facts.site.state
    free = shutil.disk_usage(state).free
    needed = _needed_bytes(facts)
    said = (
        f"the state folder has {_gib(free)} free; cache and checkpoints will need about {_gib(needed)} more"
    )
    if free < needed:
        yield Finding("Disk", Severity.ERROR, f"{said}. Give it more room (spec.state), or fewer cases")
    elif free < 1.25 * needed:
        yield Finding("Disk", Severity.WARNING, f"{said}, which is tight")
    else:
        yield Finding("Disk", Severity.INFO, said)
    scratch = Path(tempfile.gettempdir())
    if (left := shutil.disk_usage(scratch).free) < _SCRATCH_BYTES:
        what = (
            f"the folder for temporary files has {left >> 20} MiB free; {_SCRATCH_BYTES >> 20} MiB are needed"
        )
        yield Finding("Disk", Severity.WARNING, what)


def check_bandwidth(facts: Facts) -> Iterator[Finding]:
    """One MiB up and down, and whether the way keeps old answers or loses the condition of a write.

    On a fast line that measures the way rather than the width: `at least`.
    """
    key = f"{keys.preflights(facts.site.alias)}probe"
    facts.store.put(key, b"before")
    facts.store.get(key)  # what a cache would answer from now on
    sent = secrets.token_bytes(PROBE_BYTES)  # random, as a line may compress
    began = time.monotonic()
    facts.store.put(key, sent)
    up = time.monotonic() - began
    began = time.monotonic()
    got = facts.store.get(key)
    down = time.monotonic() - began
    if got != sent:
        what = "an object came back changed from the store. Check for a proxy or cache in front of it"
        yield Finding("Bandwidth", Severity.ERROR, what)
        return
    if not _refuses_a_second(facts.store, key, sent):
        what = (
            "a second create of one key was accepted: what lies between here and the store loses the "
            "condition of a write (If-None-Match). Let the proxy pass it on, or not open TLS to the store"
        )
        yield Finding("Bandwidth", Severity.ERROR, what)
        return
    seconds = (up + down) * facts.model_bytes / PROBE_BYTES
    said = (
        f"at least {_rate(up)} up and {_rate(down)} down; a model of {facts.model_bytes / 1e6:.1f} MB takes "
        f"about {seconds:.0f} s a round"
    )
    timeout = facts.control.spec.participation.round_timeout_seconds
    if timeout is not None and seconds > timeout / 2:
        what = f"{said}, more than half of participation.roundTimeoutSeconds"
        yield Finding("Bandwidth", Severity.WARNING, what)
    else:
        yield Finding("Bandwidth", Severity.WARNING if seconds > _SLOW_SECONDS else Severity.INFO, said)


def _refuses_a_second(store: Store, key: str, data: bytes) -> bool:
    """Whether a create of what is there already is refused from here too, as it was from the operator."""
    try:
        store.create(key, data)
    except AlreadyExists:
        return True
    return False


def check_clock(facts: Facts) -> Iterator[Finding]:
    before = datetime.now(UTC)
    there = facts.store.now()
    here = before + (datetime.now(UTC) - before) / 2
    skew = (here - there).total_seconds()
    if abs(skew) > SKEW_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        what = (
            f"this machine's clock is {abs(skew):.0f} s {way} the store's. From 15 minutes on, the "
            "store refuses requests. Synchronise the clock by NTP"
        )
        yield Finding("Clock", Severity.WARNING, what)
    else:
        # S3 tells its time in whole seconds.
        yield Finding("Clock", Severity.INFO, f"within {max(1, round(abs(skew)))} s of the store's")


def check_gpu(facts: Facts) -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        said = f"{torch.cuda.get_device_name()}, {_gib(free)} of {_gib(total)} free"
        scarce = free < _GPU_FREE_BYTES
        yield Finding("GPU", Severity.WARNING if scarce else Severity.INFO, said)
        return
    resources = facts.site.spec.trainer.resources
    asked = [name for name in (resources.limits or {} if resources else {}) if name.startswith("nvidia.com/")]
    if not asked:
        yield Finding("GPU", Severity.INFO, "none requested; training on the CPU")
        return
    what = (
        f"spec.trainer.resources.limits ({', '.join(asked)}) asks for a GPU, but torch sees none. Check the "
        "driver, spec.trainer.runtimeClassName and the image's CUDA"
    )
    # On a machine of one's own the manifest's resources are only what a Pod would get.
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    yield Finding("GPU", Severity.ERROR if in_pod else Severity.WARNING, what)


CHECKS = (check_limits, check_data, check_clock, check_disk, check_bandwidth, check_gpu)


def _needed_bytes(facts: Facts) -> int:
    """What this federation will still write to the site's state, roughly."""
    model = facts.model_bytes * _MODELS_ON_DISK + facts.private_bytes * facts.control.spec.rounds
    cases = () if isinstance(facts.found, Refusal) else facts.found
    cache = _CACHE_BYTES_PER_VOXEL * sum(_prepared_voxels(facts, cases))
    # The rows of a study share a cache, to which state/cache is a link.
    folders = {facts.site.state, (facts.site.state / "cache").resolve()}
    files = {file.resolve() for folder in folders for file in folder.rglob("*") if file.is_file()}
    have = sum(file.stat().st_size for file in files)
    return max(0, round(model + cache) - have)


def _prepared_voxels(facts: Facts, cases: Iterable[Case]) -> Iterator[float]:
    target, resize = facts.control.spec.preprocessing.target_spacing, facts.control.spec.preprocessing.resize
    for case in cases:
        try:
            grid = native_grid(case, facts.site.spec.max_case_mebibytes)
        except BadCase:
            continue  # preparing names them all
        if target:
            # Axes may be permuted on the way; the volume of a voxel is the same in any order.
            yield prod(grid.shape) * prod(grid.spacing) / prod(target)
        else:
            yield prod(resize) if resize else prod(grid.shape)


def _model_bytes(control: Control, site: Site) -> tuple[int, int]:
    """Of the whole model, and of what is private to the site."""
    organs = control.organs if control.shared_head else site.organs or control.organs
    net = network.build(control.spec, organs)
    shared = (
        set(shared_by(site.alias, network.groups_of(net), control)) if site.alias in control.active else ()
    )
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in net.state_dict().items()}
    return sum(sizes.values()), sum(size for name, size in sizes.items() if name not in shared)


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB / 10 else f"{count / (1 << 20):.0f} MiB"


def _rate(seconds: float) -> str:
    return f"{PROBE_BYTES / 1e6 / max(seconds, 1e-6):.1f} MB/s"
