"""Scores the exported models at a site that only evaluates."""

from typing import Any

from segviz_exchange.spec import StoreSpec
from segviz_operator.hosting import Host
from segviz_operator.names import Subject
from segviz_operator.plan import CreateWorkload
from segviz_operator.pod import Draft, build_job, store_arguments


def build_evaluation_job(
    subject: Subject, action: CreateWorkload, store: StoreSpec, host: Host, threads: int
) -> dict[str, Any]:
    return build_job(
        Draft(
            subject,
            action,
            host.namespace,
            host.consent,
            store,
            host.spec.trainer,
            ("-m", "segviz_trainer", "evaluate", *store_arguments(subject, store), *host.arguments(subject)),
            threads,
            host.mounts(),
            host.annotations(),
        )
    )
