"""The keys of a run on one machine: who may write what, told to each of its processes."""

from segviz_exchange.contract import keys
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.keyring import Keyring, Trusted, Writers
from segviz_exchange.stores.opening import KEYS
from segviz_operator.local.identity import COORDINATOR, Identity
from segviz_operator.local.workdir import WorkDir

_AGGREGATOR = "aggregator"


def share_keys(identity: Identity, workdir: WorkDir) -> None:
    """Make what keys are missing, and tell every party whose is whose. Nothing, where records are not signed.

    Raises:
        Refusal: a key cannot be used.
    """
    if identity.keys is None:
        return
    rings = {alias: Keyring(workdir.keys(_AGGREGATOR, alias)) for alias in _here(identity)}
    coordinator, aggregator = (Keyring(workdir.keys(role, None)) for role in (COORDINATOR, _AGGREGATOR))
    trusted = Trusted(
        identity.prefix,
        {
            keys.CONTROLS: Writers((coordinator.public,), decides=True, first=1),
            # With a trained start, the coordinator writes round 0.
            keys.GLOBAL: Writers((aggregator.public, coordinator.public), decides=True),
            keys.ROUNDS: Writers((aggregator.public, coordinator.public), decides=True, first=0),
            keys.EXPORTS: Writers((aggregator.public,), decides=True),
            **{keys.site(alias): Writers() for alias in identity.sites},
            **{keys.site(alias): Writers((ring.public,)) for alias, ring in rings.items()},
        },
    )
    try:
        for ring in (coordinator, aggregator, *rings.values()):
            ring.trust(trusted)
    except OSError as error:
        raise Refusal(f"{error.filename}: {error.strerror}. Choose another --workdir.") from error


def keys_of(identity: Identity, workdir: WorkDir, site: str | None) -> dict[str, str]:
    """For the environment of a process. The export writes as the aggregator does."""
    return {} if identity.keys is None else {KEYS: str(workdir.keys(_AGGREGATOR, site))}


def environment_of_readers(identity: Identity) -> dict[str, str]:
    """For a process that shows what the coordinator may see."""
    return {} if identity.own_keys is None else {KEYS: str(identity.own_keys)}


def _here(identity: Identity) -> list[str]:
    """Sites on this machine; what a site outside writes is not signed yet."""
    return [alias for alias, known in sorted(identity.sites.items()) if not known.spec.remote]
