"""What a site lends a federation: the namespace, its consent there, and what its owner says of the Pod."""

from dataclasses import dataclass

import msgspec

from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.stores.opening import KEY_FILE
from segviz_exchange.stores.signing import PublicKey
from segviz_operator.cluster.api.names import SPEC_DIGEST, Subject
from segviz_operator.cluster.objects.pod import (
    KEY_ENTRY,
    KEY_FOLDER,
    POLICY_FOLDER,
    SITE_FILE,
    STORE_FOLDER,
    Mount,
    Owner,
    secret_mode,
)
from segviz_operator.manifests.digest import digest
from segviz_operator.plan.command_line import SiteFolders, proxy_environment

DATA_FOLDER = "/data"
STATE_FOLDER = "/state"
PROXY_FOLDER = "/segviz/proxy"


@dataclass(frozen=True)
class Host:
    """A site of the cluster that takes part."""

    alias: str
    namespace: str
    name: str
    """Of its SegVizSite."""
    consent: Owner
    """The RoleBinding; whoever takes it away takes all with it that the operator made here."""
    spec: SiteSpec

    def folders(self, subject: Subject) -> SiteFolders:
        state = f"{STATE_FOLDER}/{subject.records_uid}"
        return SiteFolders(self.alias, f"{STORE_FOLDER}/{SITE_FILE}", DATA_FOLDER, state)

    def mounts(self, signed: bool = False) -> tuple[Mount, ...]:
        assert self.spec.state is not None, "a site without state takes no part in a cluster"
        claim = self.spec.state.persistent_volume_claim.claim_name
        return (
            Mount("data", DATA_FOLDER, self._data(), read_only=True),
            Mount("state", STATE_FOLDER, {"persistentVolumeClaim": {"claimName": claim}}),
            # The site's chart makes it; a site that was made without is told by the operator alone.
            Mount(
                "policy",
                POLICY_FOLDER,
                {"configMap": {"name": f"{self.name}-policy", "optional": True}},
                read_only=True,
            ),
            *self._proxy_secret(),
            *(self._key_secret() if signed else ()),
        )

    def environment(self, signed: bool = False) -> dict[str, str]:
        """What a Pod at this site has beside what every Pod has."""
        proxy = self.spec.proxy
        secret = None if proxy is None or proxy.secret_ref is None else PROXY_FOLDER
        return {
            **({} if proxy is None else proxy_environment(proxy.url, secret)),
            **({KEY_FILE: f"{KEY_FOLDER}/{KEY_ENTRY}"} if signed and self.public_key else {}),
        }

    @property
    def public_key(self) -> PublicKey | None:
        """None of a site that does not sign."""
        signing = self.spec.signing
        return None if isinstance(signing, msgspec.UnsetType) else signing.public_key

    def annotations(self) -> dict[str, str]:
        return {SPEC_DIGEST: spec_digest(self.spec)}

    def _proxy_secret(self) -> tuple[Mount, ...]:
        proxy = self.spec.proxy
        if proxy is None or proxy.secret_ref is None:
            return ()
        source = {
            "secret": {"secretName": proxy.secret_ref.name, "defaultMode": secret_mode(self.spec.trainer)}
        }
        return (Mount("proxy", PROXY_FOLDER, source, read_only=True),)

    def _key_secret(self) -> tuple[Mount, ...]:
        signing = self.spec.signing
        if isinstance(signing, msgspec.UnsetType) or signing.secret_ref is None:
            return ()
        source = {
            "secret": {"secretName": signing.secret_ref.name, "defaultMode": secret_mode(self.spec.trainer)}
        }
        return (Mount("key", KEY_FOLDER, source, read_only=True),)

    def _data(self) -> dict[str, object]:
        volume = self.spec.volume
        if volume.host_path is not None:
            return {"hostPath": {"path": volume.host_path.path, "type": "Directory"}}
        assert volume.persistent_volume_claim is not None, "the schema asks for one of the two"
        name = volume.persistent_volume_claim.claim_name
        return {"persistentVolumeClaim": {"claimName": name, "readOnly": True}}


def spec_digest(spec: SiteSpec) -> str:
    """Changes with all that a Pod at the site is made of, or reads of its site's manifest."""
    # Who else may come and whether work rests are no matter of a running Pod.
    return digest(msgspec.structs.replace(spec, allowed_federations=(), suspend=False))
