"""The folder of a local run: everything that is needed to go on lies in it.

bucket/              records and blobs, unless --store names another place
state/<site>/        a site's checkpoints and cached images: private, never uploaded
scratch/<role>/      may be deleted when nothing runs
logs/<role>-<site>.log
models/<variant>/    the exported models
join/<site>.json     what to send to a remote site: it holds credentials
report.json, report.csv
keys/<role>/         keys of coordinator and aggregator, which sign their records; a site's lie in its state
federation.json      which federation this is
targets.json         where Prometheus finds its metrics, while it runs with --metrics-port
lock                 held by the one runner
"""

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import IO

import msgspec

from segviz_exchange.contract.run import INDEX
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.malformed import malformation
from segviz_exchange.process.writing import PRIVATE, write_whole
from segviz_operator.local.identity import KEYS, Identity

# `segviz status` holds the lock for an instant to see whether somebody else does.
_LOOKS = 5
# In federation.json: the run's own bucket, so that the folder can be moved with everything in it.
_OWN_BUCKET = "bucket"
_LOOK_SECONDS = 0.1


class WorkDir:
    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.bucket = self.root / "bucket"
        self.logs = self.root / "logs"
        self.models = self.root / "models"
        self.invitations = self.root / "join"
        self.report_json = self.root / "report.json"
        self.report_csv = self.root / "report.csv"
        self.page = self.root / "report.html"
        self.run_index = self.root / INDEX
        """What the page is made from: where the sites' images lie."""
        self.targets = self.root / "targets.json"
        self._identity = self.root / "federation.json"

    def state(self, site: str) -> Path:
        return self.root / "state" / site

    def keys(self, role: str, site: str | None) -> Path:
        """Where a role's keys are, a site's on its own disk."""
        return self.root / KEYS / role if site is None else self.state(site) / KEYS

    def scratch(self, role: str) -> Path:
        return self.root / "scratch" / role

    def identity(self) -> Identity | None:
        """None where no run has begun here.

        Raises:
            Refusal: the folder's federation.json is not one of ours.
        """
        try:
            data = self._identity.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Refusal(f"{self._identity}: cannot be read: {error.strerror}.") from error
        try:
            identity = msgspec.json.decode(data, type=Identity)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise Refusal(
                f"{self._identity}: not a run of this version of segviz: {malformation(error)}. "
                "Choose another --workdir."
            ) from error
        return msgspec.structs.replace(
            identity,
            store=str(self.bucket) if identity.store == _OWN_BUCKET else identity.store,
            keys=None if identity.keys is None else str(self.root / KEYS),
        )

    def remember(self, identity: Identity) -> None:
        if identity.store == str(self.bucket):
            identity = msgspec.structs.replace(identity, store=_OWN_BUCKET)
        if identity.keys is not None:
            identity = msgspec.structs.replace(identity, keys=KEYS)
        write_whole(self._identity, msgspec.json.format(msgspec.json.encode(identity)) + b"\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held by the one runner; the kernel lets go of it however that ends.

        A folder that was made for a run which then was refused goes again.

        Raises:
            Refusal: another runner holds it, or there can be no such folder.
        """
        try:
            made = [each for each in (self.root, *self.root.parents) if not each.exists()]
            self.root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            file = (self.root / "lock").open("ab")
        except OSError as error:
            raise Refusal(
                f"{self.root}: cannot be a --workdir: {error.strerror}. Name a folder that you may write to."
            ) from error
        with file:
            if not _take(file):
                raise Refusal(
                    f"{self.root}: another `segviz run` is running here. Watch it with `segviz status "
                    f"{self.root}`, stop it with Ctrl-C where it runs, or choose another --workdir."
                )
            try:
                yield
            finally:
                if made and not self._identity.exists():
                    _remove(made)

    def is_running(self) -> bool:
        """Whether a runner holds the lock."""
        try:
            file = (self.root / "lock").open("rb")
        except FileNotFoundError:
            return False
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False


def _take(file: IO[bytes]) -> bool:
    for _ in range(_LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sleep(_LOOK_SECONDS)
        else:
            return True
    return False


def _remove(made: Sequence[Path]) -> None:
    """A folder, and those above it that were made for it, as far as nobody else uses them."""
    folder, *parents = made
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        for parent in parents:
            parent.rmdir()
