"""The key that a site's manifest tells others of, against the one that its trainer holds."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from builders.small_specs import site_spec
from segviz_exchange.contract.site_spec import SiteSigning
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.certified import Certified, Party
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.keyring import Keyring
from segviz_exchange.stores.signed import SignedStore
from segviz_exchange.stores.signing import public_key
from segviz_trainer.participation.site_process import check_key

OWN, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
TOLD = site_spec(("liver",), signing=SiteSigning(public_key(OWN)))


def certified(own: Ed25519PrivateKey | None, tmp_path: Path) -> SignedStore:
    return SignedStore(FolderStore(tmp_path), Certified(Party("a/b-1/", public_key(OTHER)), own))


def test_a_site_signs_with_the_key_that_others_are_told_of(tmp_path: Path) -> None:
    check_key(TOLD, certified(OWN, tmp_path))
    check_key(site_spec(("liver",)), certified(OTHER, tmp_path))


@pytest.mark.parametrize("held", [OTHER, None])
def test_another_key_than_the_manifests_is_refused(held: Ed25519PrivateKey | None, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"spec\.signing\.publicKey is .*, and the private key of this site is"):
        check_key(TOLD, certified(held, tmp_path))


def test_a_clusters_manifest_runs_on_one_machine_with_a_key_of_that_machine(tmp_path: Path) -> None:
    check_key(TOLD, SignedStore(FolderStore(tmp_path / "bucket"), Keyring(tmp_path / "keys")))
    check_key(TOLD, FolderStore(tmp_path / "bucket"))
