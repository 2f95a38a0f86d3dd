"""Remote sites of a local run: their credentials come from the store's STS, their join files lie in the
working folder and are written anew with each renewal."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from segviz_exchange.contract.choices import Role
from segviz_exchange.contract.join import Invitation, encode_invitation
from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.writing import write_private
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.s3_access import credentials_from_environment, split_url
from segviz_exchange.stores.store import Store
from segviz_operator.access.handover import credentials_to_tell
from segviz_operator.access.rights import site_access
from segviz_operator.access.sts import Sts
from segviz_operator.local.identity import Identity
from segviz_operator.manifests.manifest import Site
from segviz_operator.progress.facts import FederationRecords

DEFAULT_SECONDS = 3600


class Invitations:
    def __init__(self, identity: Identity, store: Store, folder: Path) -> None:
        self._identity = identity
        self._store = store
        self._folder = folder

    def renew(
        self, sites: Mapping[str, Site], spec: FederationSpec, records: FederationRecords
    ) -> tuple[str, ...]:
        """Renew what is due; returns the aliases that were invited for the first time.

        Raises:
            StoreError: the store gives out no credentials.
        """
        invited = []
        seconds = DEFAULT_SECONDS if spec.store is None else spec.store.credential_seconds
        for alias, site in sorted(sites.items()):
            if not site.spec.remote:
                continue
            file = self.file(alias)
            mint = partial(self._mint, alias, site, seconds)
            known = file.exists()
            credentials = credentials_to_tell(self._store, alias, mint, seconds, records.now, known)
            if credentials is None:
                continue
            if not known:
                invited.append(alias)
            self._write(file, alias, credentials)
        return tuple(invited)

    def file(self, alias: str) -> Path:
        return self._folder / f"{alias}.json"

    def _mint(self, alias: str, site: Site, seconds: int) -> Credentials:
        access = site_access(alias, reads_export=site.spec.role is Role.EVALUATION)
        endpoint, bucket, outer = split_url(self._identity.store)
        return self._sts(endpoint).mint(access, bucket, outer + self._identity.prefix, seconds, alias)

    def _sts(self, endpoint: str) -> Sts:
        mine = credentials_from_environment().retrieve()
        parent = Credentials(mine.access_key, mine.secret_key, mine.session_token)
        return Sts(endpoint, parent, _region(), None)

    def _write(self, file: Path, alias: str, credentials: Credentials) -> None:
        ca = os.environ.get("SEGVIZ_STORE_CA")
        invitation = Invitation(
            store=self._identity.store,
            namespace=self._identity.namespace,
            name=self._identity.name,
            uid=self._identity.uid,
            alias=alias,
            credentials=credentials,
            region=_region(),
            ca=None if ca is None else Path(ca).read_text(encoding="utf-8"),
        )
        write_private(file, encode_invitation(invitation))


def check_reachable(store: str, sites: Mapping[str, Site]) -> None:
    """Raises Refusal where a site outside could not reach the records."""
    remote = [alias for alias, site in sorted(sites.items()) if site.spec.remote]
    if remote and "://" not in store:
        raise Refusal(
            f"site {remote[0]!r}: is remote (spec.remote), and cannot reach {store}. Keep the records in an "
            "S3 store that it can reach: --store s3://HOST/BUCKET."
        )


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
