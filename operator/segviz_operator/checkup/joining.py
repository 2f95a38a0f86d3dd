"""A site outside the operator's cluster, from where it stands: all that `segviz join` will need."""

import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from segviz_exchange.contract import keys
from segviz_exchange.contract.join import Invitation, read_invitation
from segviz_exchange.contract.ledger import newest_control
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.proxy import proxy_to
from segviz_exchange.stores.s3_access import split_url
from segviz_exchange.stores.s3_errors import Outdated
from segviz_exchange.stores.store import AlreadyExists, Denied, Store, StoreError
from segviz_operator.checkup.finding import Finding, bad, good, unknown
from segviz_operator.joining.seat import Seat, held_credentials, take_seat

SKEW_SECONDS = 60
"""As the trainer's own check has it; S3 stores refuse requests from about 15 minutes on."""
_SEES_GPU = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"


def check_join(joinfile: Path, manifest: Path | None, data: Path | None) -> Iterator[Finding]:
    """Args:
    manifest: the site's own; what it says is not checked where there is none.
    data: the folder that `--data` of `segviz join` will name.
    """
    try:
        invitation = read_invitation(joinfile)
    except Refusal as refusal:
        yield bad(str(refusal), "segviz doctor --join FILE, with the file that the coordinator sent")
        return
    yield good(f"{joinfile} is for {invitation.alias} in {invitation.federation}")
    if manifest is None or data is None:
        yield unknown("consent and data are not checked", "Give --site-file and --data as for segviz join.")
        return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            # In a state of its own: the real one may be in use.
            seat = take_seat(joinfile, manifest, data, Path(scratch), Console(quiet=True))
        except Refusal as refusal:
            yield bad(str(refusal), "Mend that first: segviz join would refuse it too.")
            return
        yield good(f"{seat.site} consents, and its data sets are in {data}")
        if (yield from _check_way(invitation, seat)):
            yield from _check_store(seat)
        yield from _check_gpu(seat)


def _check_way(invitation: Invitation, seat: Seat) -> Generator[Finding, None, bool]:
    """Names and the proxy, and whether there is a way; what TLS says is the store's first answer."""
    address, _, _ = split_url(invitation.store)
    named = None if seat.site.spec.proxy is None else seat.site.spec.proxy.url
    try:
        proxy = proxy_to(address, named)
    except Refusal as refusal:
        yield bad(str(refusal), "docs/how-to/install.md says how a proxy is named.")
        return False
    if proxy is None and named is not None:
        yield unknown(f"{address} has no TLS, so it is not reached through {named}", "Give the store TLS.")
    host = urlsplit(address if proxy is None else proxy.url)
    what = "the store" if proxy is None else "the proxy"
    try:
        socket.getaddrinfo(host.hostname, host.port)
    except OSError as error:
        yield bad(
            f"{what}'s name {host.hostname} cannot be looked up: {error.strerror}",
            "Ask who runs the network for DNS, or for a proxy (HTTPS_PROXY) that knows the name.",
        )
        return False
    yield good(f"{address} is reached " + ("directly" if proxy is None else f"through {proxy.url}"))
    return True


def _check_store(seat: Seat) -> Iterator[Finding]:
    until = held_credentials(seat).expiration
    try:
        store = seat.open_store()
        there = store.now()
        yield _clock(there)
        control = newest_control(store)
        yield good(f"{seat.invitation.store} answers, and its certificate is trusted")
        yield from _check_rights(store, seat)
    except (Outdated, Denied) as error:
        if until is not None and until <= datetime.now(UTC):
            yield bad(
                f"the join file's credentials expired at {until:%Y-%m-%d %H:%M} UTC",
                f"Ask the coordinator of {seat.invitation.federation} for the join file as it is now.",
            )
        else:
            yield bad(f"the store refuses: {error}", "Ask the coordinator for a new join file.")
        return
    except (StoreError, Refusal) as error:
        yield bad(f"the store cannot be used from here: {error}", "Mend that; docs/how-to/install.md, 3.")
        return
    if control is None:
        yield unknown("the federation has not begun", "It will when its operator accepts it.")
    elif seat.alias not in control.members and seat.site.spec.role == "Training":
        yield unknown(f"{seat.alias} is not a member yet", "Tell the coordinator that you are ready.")


def _clock(there: datetime) -> Finding:
    skew = (datetime.now(UTC) - there).total_seconds()
    if abs(skew) <= SKEW_SECONDS:
        return good("the clock agrees with the store's")
    way = "ahead of" if skew > 0 else "behind"
    return bad(
        f"this machine's clock is {abs(skew):.0f} s {way} the store's, and stores refuse from 15 minutes on",
        "timedatectl set-ntp true",
    )


def _check_rights(store: Store, seat: Seat) -> Iterator[Finding]:
    key = f"{keys.preflights(seat.alias)}probe"
    changed = False
    for data in (secrets.token_bytes(8), secrets.token_bytes(8)):  # a cache would answer with the first again
        store.put(key, data)
        changed = changed or store.get(key) != data
    try:
        store.create(key, b"again")
    except AlreadyExists:
        if not changed:
            yield good("the site's rights suffice, and objects and conditions arrive unchanged")
            return
    yield bad(
        "what lies between here and the store changes or keeps objects, or loses the condition of a write",
        "Let the proxy not open TLS to the store, or pass If-None-Match on and cache nothing.",
    )


def _check_gpu(seat: Seat) -> Iterator[Finding]:
    """By a process of its own: torch takes seconds and gigabytes, and no role but the trainer imports it."""
    resources = seat.site.spec.trainer.resources
    asked = [name for name in (resources.limits or {} if resources else {}) if name.startswith("nvidia.com/")]
    if find_spec("torch") is None:
        yield bad("torch is not installed here", "Use the trainer's image, or install the extra [trainer].")
        return
    if not asked and shutil.which("nvidia-smi") is None:
        yield unknown("there is no GPU's driver: it would train on the CPU")
        return
    done = subprocess.run((sys.executable, "-c", _SEES_GPU), capture_output=True, encoding="utf-8")
    if name := done.stdout.strip():
        yield good(f"torch sees {name}")
    else:
        why = f"the manifest asks for {asked[0]}" if asked else "there is a driver"
        yield bad(
            f"torch sees no GPU, though {why}",
            "Check nvidia-smi, the driver's version, and --gpus all (docker) or --device nvidia.com/gpu=all.",
        )
