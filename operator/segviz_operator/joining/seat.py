"""A site's place in a federation, as a machine outside the cluster knows it, and how it is taken."""

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from segviz_exchange.contract.join import Invitation, read_invitation
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.writing import write_private
from segviz_exchange.stores.certified import Party, certified
from segviz_exchange.stores.credentials import (
    Credentials,
    CredentialsFile,
    decode_credentials,
    encode_credentials,
)
from segviz_exchange.stores.opening import KEY_FILE, PARTY
from segviz_exchange.stores.s3 import S3Store
from segviz_exchange.stores.signed import SignedStore
from segviz_exchange.stores.signing import load_or_make, public_key
from segviz_exchange.stores.store import Store
from segviz_operator.manifests.manifest import Site, load
from segviz_operator.plan.command_line import SiteFolders

_HOME = "_site"
"""No namespace is called so."""


@dataclass(frozen=True)
class Seat:
    """A site's place in a federation, as this machine knows it."""

    invitation: Invitation
    site: Site
    data: Path
    state: Path
    """In this federation."""
    home: Path
    """In all that share the folder."""
    joinfile: Path

    @property
    def alias(self) -> str:
        return self.invitation.alias

    @property
    def credentials(self) -> Path:
        return self.state / "credentials.json"

    @property
    def ca(self) -> Path:
        return self.state / "ca.crt"

    @property
    def spec(self) -> Path:
        return self.state / "site.json"

    @property
    def folders(self) -> SiteFolders:
        return SiteFolders(self.alias, str(self.spec), str(self.data), str(self.state), str(self.home))

    @property
    def key_file(self) -> Path:
        """One for all federations: it is the site's."""
        return self.home / "private.pem"

    @property
    def party_file(self) -> Path:
        return self.state / "party.json"

    @property
    def party(self) -> Party | None:
        """None where the records are not signed."""
        coordinator = self.invitation.coordinator
        return None if coordinator is msgspec.UNSET else Party(self.invitation.prefix, coordinator)

    @property
    def environment(self) -> dict[str, str]:
        """What its processes are told of signatures."""
        if self.party is None:
            return {}
        return {PARTY: str(self.party_file), KEY_FILE: str(self.key_file)}

    def open_store(self) -> Store:
        """Raises Refusal."""
        store = S3Store.from_url(
            self.invitation.store,
            CredentialsFile(self.credentials),
            ca_pem=self.invitation.ca,
            region=self.invitation.region,
            proxy=None if self.site.spec.proxy is None else self.site.spec.proxy.url,
        )
        if self.party is None:
            return store.scoped(self.invitation.prefix)
        ring = certified(self.party, self.key_file, self.state / "keys")
        return SignedStore(store, ring).scoped(self.invitation.prefix)


def take_seat(joinfile: Path, manifest: Path, data: Path, state: Path, console: Console) -> Seat:
    """Check all that can be checked before anything is sent.

    Raises:
        Refusal: what is wrong, and what to do.
    """
    invitation = read_invitation(joinfile)
    _check_mode(joinfile, console)
    site = _only_site(manifest)
    if not site.allows(invitation.federation, invitation.uid):
        raise Refusal(
            f"{manifest}: {site} does not consent to {invitation.federation} with the UID {invitation.uid}. "
            f"To take part, add {invitation.federation} to its spec.allowedFederations."
        )
    if site.spec.suspend:
        raise Refusal(f"{manifest}: {site} is suspended. Set spec.suspend to false to take part.")
    for data_set in site.spec.data_sets:
        if not (data / data_set.path).exists():
            raise Refusal(
                f"--data {data}: data set {data_set.name!r} is expected in {data / data_set.path}, which "
                "does not exist. Correct the path, or copy the data there."
            )
    # One folder may serve several federations, or one made again.
    own, home = state.resolve() / invitation.prefix, state.resolve() / _HOME
    try:
        for folder in (own, home):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        seat = Seat(invitation, site, data.resolve(), own, home, joinfile)
        _keep_best_credentials(seat, invitation.credentials)
        if invitation.ca is not None:
            write_private(seat.ca, invitation.ca.encode())
        write_private(seat.spec, msgspec.json.encode(site.spec))
        _take_keys(seat, console)
    except OSError as error:
        raise Refusal(
            f"--state {state}: {error.strerror}: {error.filename}. Choose another folder."
        ) from error
    return seat


def _take_keys(seat: Seat, console: Console) -> None:
    """Make the site's own key, once, and hold its manifest to it.

    Raises:
        Refusal: the manifest tells of another one.
        OSError: nothing can be written there.
    """
    if seat.party is None:
        return
    own, told = public_key(load_or_make(seat.key_file)), seat.site.spec.signing
    write_private(seat.party_file, msgspec.json.encode(seat.party))
    if isinstance(told, msgspec.UnsetType):
        console.print(
            f"{seat.alias} does not sign: whoever runs the bucket can write in its name. To change that, add "
            f"signing: {{publicKey: {own}}} to the spec of {seat.site}, and send it to the coordinator "
            "before the next federation begins.",
            markup=False,
            soft_wrap=True,
        )
    elif told.public_key != own:
        raise Refusal(
            f"{seat.site}: spec.signing.publicKey is {told.public_key[:12]}…, and the key in {seat.key_file} "
            f"is that of {own}. Write this one, and send the manifest to the coordinator; or bring the old "
            "key back."
        )


def held_credentials(seat: Seat) -> Credentials:
    return decode_credentials(seat.credentials.read_bytes(), str(seat.credentials))


def adopt_new_join_file(seat: Seat) -> bool:
    """Take the credentials of a join file that has replaced the first one; whether that made a difference."""
    try:
        now = read_invitation(seat.joinfile)
    except Refusal:
        return False  # gone, or being written
    if (now.uid, now.alias) != (seat.invitation.uid, seat.alias):
        return False
    before = held_credentials(seat)
    _keep_best_credentials(seat, now.credentials)
    return held_credentials(seat) != before


def _keep_best_credentials(seat: Seat, offered: Credentials) -> None:
    """Of a join file's and those that were taken before, the ones that hold longer."""
    try:
        held = held_credentials(seat)
    except (OSError, Refusal):
        held = None
    forever = datetime.max.replace(tzinfo=UTC)
    if held is None or (offered.expiration or forever) >= (held.expiration or forever):
        write_private(seat.credentials, encode_credentials(offered))


def _check_mode(path: Path, console: Console) -> None:
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    # In a Pod it is a Secret, whose mode is its volume's.
    if mode & stat.S_IROTH and "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise Refusal(
            f"{path}: anyone on this machine can read it, and it holds credentials. Run: chmod 600 {path}"
        )
    # In a Pod the Secret is root's, and the group is how its process reads it.
    if mode & stat.S_IRGRP and found.st_uid == os.getuid():
        console.print(f"warning: {path} can be read by its group; better: chmod 600 {path}", markup=False)


def _only_site(manifest: Path) -> Site:
    sites = load((manifest,)).sites
    if len(sites) != 1:
        raise Refusal(f"{manifest}: it holds {len(sites)} SegVizSites. Give a file with this site's alone.")
    return sites[0]
