"""What runs at a site: the trainer for as long as the federation lasts, or the scoring of its result."""

from typing import Any

from segviz_exchange.contract.spec import StoreSpec
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.objects.hosting import Host
from segviz_operator.cluster.objects.pod import Draft, build_job, store_arguments
from segviz_operator.plan.decide import CreateWorkload
from segviz_operator.plan.workload import SITE_TASKS


def build_site_job(
    subject: Subject, action: CreateWorkload, store: StoreSpec, host: Host, threads: int
) -> dict[str, Any]:
    words = ("-m", "segviz_trainer", SITE_TASKS[action.role])
    return build_job(
        Draft(
            subject,
            action,
            host.namespace,
            host.consent,
            store,
            host.spec.trainer,
            (*words, *store_arguments(subject, store), *host.arguments(subject)),
            threads,
            host.mounts(),
            host.annotations(),
        )
    )
