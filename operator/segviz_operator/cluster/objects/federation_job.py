"""What runs beside a federation: the aggregator, and the export that puts the final model together."""

from typing import Any

from segviz_exchange.contract.site_spec import TrainerPod
from segviz_exchange.contract.spec import StoreSpec
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.objects.pod import Draft, Owner, build_job, store_arguments
from segviz_operator.plan.decide import CreateWorkload
from segviz_operator.plan.workload import WorkloadRole

_SCRATCH = ("--scratch", "/tmp/scratch")


def build_federation_job(
    subject: Subject,
    action: CreateWorkload,
    store: StoreSpec,
    owner: Owner,
    pod: TrainerPod,
    threads: int,
) -> dict[str, Any]:
    return build_job(
        Draft(subject, action, subject.namespace, owner, store, pod, _words(subject, action, store), threads)
    )


def _words(subject: Subject, action: CreateWorkload, store: StoreSpec) -> tuple[str, ...]:
    where = store_arguments(subject, store)
    if action.role is WorkloadRole.AGGREGATOR:
        return ("-m", "segviz_aggregator", *where, *_SCRATCH)
    # The model stays in the bucket; the Pod's own copy is lost.
    return ("-m", "segviz_trainer", "export", *where, *_SCRATCH, "--output", "/tmp/models")
