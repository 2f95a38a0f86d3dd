"""What runs beside a federation: the aggregator, and the export that puts the final model together."""

from typing import Any

from segviz_exchange.contract.site_spec import TrainerPod
from segviz_exchange.contract.spec import StoreSpec
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.objects.pod import Draft, Owner, build_job, pod_command
from segviz_operator.plan.command_line import RunFolders
from segviz_operator.plan.decide import CreateWorkload

# The model stays in the bucket; the Pod's own copy is lost.
_SCRATCH = RunFolders("/tmp/scratch", "/tmp/models")


def build_federation_job(
    subject: Subject,
    action: CreateWorkload,
    store: StoreSpec,
    owner: Owner,
    pod: TrainerPod,
    threads: int,
    signed: bool = False,
) -> dict[str, Any]:
    words = pod_command(subject, action.role, store, _SCRATCH)
    draft = Draft(subject, action, subject.namespace, owner, store, pod, words, threads, signed=signed)
    return build_job(draft)
