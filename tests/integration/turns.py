"""Turns of an operator in the test's own process, one by one."""

from datetime import timedelta
from typing import Any

from integration.operator_rig import Rig
from segviz_exchange.contract.choices import ImagePullPolicy
from segviz_exchange.contract.site_spec import TrainerPod
from segviz_operator.cluster.api.client import JOBS, SITES
from segviz_operator.cluster.objects.jobs import job_seen
from segviz_operator.cluster.reconcile.reconciler import Reconciler
from segviz_operator.cluster.reconcile.seen import Seen
from segviz_operator.cluster.reconcile.settings import Images, Settings
from segviz_operator.manifests.manifest import Site, from_server
from segviz_operator.watch.metrics import OperatorMetrics


def seen(rig: Rig) -> Seen:
    """As the watches would show it."""
    raw = rig.federation()
    assert raw is not None
    sites: dict[tuple[str, str], Site] = {}
    for alias in ("basel", "bern"):
        found = from_server(rig.cluster.get(SITES, f"{rig.tag}-{alias}", alias) or {})
        assert isinstance(found, Site)
        sites[found.namespace, found.name] = found
    jobs = tuple(job for each in rig.objects(JOBS) if (job := job_seen(each)) is not None)
    return Seen(raw, jobs, sites, float("-inf"))


def reconciler(cluster: Any) -> Reconciler:
    pod = TrainerPod(ImagePullPolicy.IF_NOT_PRESENT, "registry.example/segviz")
    settings = Settings(Images(pod, pod), poll_seconds=0.0, stuck_after=timedelta(seconds=120))
    return Reconciler(cluster, settings, OperatorMetrics())
