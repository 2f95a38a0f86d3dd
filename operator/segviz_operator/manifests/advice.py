"""What a federation may say and seldom means."""

from segviz_exchange.contract.spec import FederationSpec


def advice(spec: FederationSpec) -> str:
    """Empty where there is none."""
    if len(spec.sites) > 1 and spec.participation.round_timeout_seconds is None:
        return (
            "Each round waits for every site for as long as it takes, while the others hold their GPUs. "
            "Set participation.roundTimeoutSeconds and minSites, or let sites set trainer.idleRelease."
        )
    return ""
