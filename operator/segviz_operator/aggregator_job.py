"""Closes and merges the rounds, beside the federation."""

from typing import Any

from segviz_exchange.spec import StoreSpec, TrainerPod
from segviz_operator.names import Subject
from segviz_operator.plan import CreateWorkload
from segviz_operator.pod import Draft, Owner, build_job, store_arguments


def build_aggregator_job(
    subject: Subject,
    action: CreateWorkload,
    store: StoreSpec,
    owner: Owner,
    pod: TrainerPod,
    threads: int,
) -> dict[str, Any]:
    return build_job(
        Draft(
            subject,
            action,
            subject.namespace,
            owner,
            store,
            pod,
            ("-m", "segviz_aggregator", *store_arguments(subject, store), "--scratch", "/tmp/scratch"),
            threads,
        )
    )
