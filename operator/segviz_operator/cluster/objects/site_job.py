"""What runs at a site: the trainer for as long as the federation lasts, or the scoring of its result."""

from typing import Any

from segviz_exchange.contract.spec import StoreSpec
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.objects.hosting import Host
from segviz_operator.cluster.objects.pod import Draft, build_job, pod_command
from segviz_operator.plan.decide import CreateWorkload


def build_site_job(
    subject: Subject, action: CreateWorkload, store: StoreSpec, host: Host, threads: int, signed: bool = False
) -> dict[str, Any]:
    return build_job(
        Draft(
            subject,
            action,
            host.namespace,
            host.consent,
            store,
            host.spec.trainer,
            pod_command(subject, action.role, store, host.folders(subject)),
            threads,
            host.mounts(signed),
            host.annotations(),
            host.environment(signed),
            signed,
        )
    )
