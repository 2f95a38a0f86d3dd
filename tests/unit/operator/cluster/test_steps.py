"""What a turn does beside what `decide` says: Jobs that make way, edits that are not accepted, retries."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from builders.federations import build_control, build_spec
from builders.rig import site_spec
from builders.snapshots import snapshot
from segviz_exchange.contract import site_spec as s
from segviz_exchange.contract.choices import ImagePullPolicy
from segviz_exchange.contract.spec import SecretRef
from segviz_operator.cluster.membership.attendance import attend
from segviz_operator.cluster.objects.hosting import spec_digest
from segviz_operator.cluster.objects.jobs import JobSeen, newest, workload_of
from segviz_operator.cluster.objects.pod import Owner, store_digest
from segviz_operator.cluster.objects.pods import Waiting
from segviz_operator.cluster.reconcile.steps import Situation, Steps, decide_steps
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.manifests.manifest import Federation, Site
from segviz_operator.manifests.problem import InvalidManifest, Problem
from segviz_operator.plan.decide import CreateWorkload, DeleteWorkload, WriteControl
from segviz_operator.plan.workload import WorkloadRole

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
CONSENT = Owner("rbac.authorization.k8s.io/v1", "RoleBinding", "segviz:consent:radiology:abdomen", "rb")
POD = s.TrainerPod(ImagePullPolicy.IF_NOT_PRESENT, image="registry.example/trainer")
STORE = {
    "endpoint": "https://minio.example:9000",
    "bucket": "segviz",
    "region": "us-east-1",
    "secretRef": {"name": "bucket"},
    "credentials": "AssumeRole",
    "credentialSeconds": 3600,
    "retention": {},
}
ORGANS = {"basel": "liver", "bern": "spleen"}
REFUSED = InvalidManifest([Problem("SegVizFederation radiology/abdomen", "spec", "is wrong", "Mend it.")])


def site(alias: str, **changes: Any) -> Site:
    lets_in = {"trainer": POD, "state": s.State(s.ClaimSource("state"))}
    fields = {**lets_in, "allowed_federations": (s.FederationRef("radiology", "abdomen"),), **changes}
    return Site("site", alias, site_spec((ORGANS[alias],), **fields), {})


def job(alias: str | None, attempt: int = 1, digest: str | None = None, **changes: Any) -> JobSeen:
    whose = "" if alias is None else spec_digest(site(alias).spec) if digest is None else digest
    role = WorkloadRole.AGGREGATOR if alias is None else WorkloadRole.TRAINER
    seen = JobSeen(
        namespace=alias or "radiology",
        name=f"{role}-{alias}-{attempt}",
        uid=f"{alias}-{attempt}",
        role=role,
        site=alias,
        attempt=attempt,
        failures=0,
        milestone=0,
        spec_digest=whose,
        store_digest="",
        started_at=NOON,
        finished_at=None,
        failed=False,
        reason="",
        ready=True,
        suspended=False,
        deleting=False,
        owner=CONSENT,
    )
    return replace(seen, **changes)


FAILED: dict[str, Any] = {"finished_at": NOON, "failed": True, "reason": "BackoffLimitExceeded"}
RUNNING = (job(None), job("basel"), job("bern"))


def situation(*jobs: JobSeen, sites: tuple[Site, ...] = (), **changes: Any) -> Situation:
    """Basel and bern train under the first control."""
    federation = Federation("abdomen", "radiology", build_spec(), {})
    there = {each.namespace: each for each in (site("basel"), site("bern"), *sites)}
    attendance = attend(federation, {(name, "site"): each for name, each in there.items()}, lambda _: CONSENT)
    return Situation(
        verdict=changes.get("verdict", Accepted(federation, there, {})),
        attendance=attendance,
        records=snapshot(changes.get("control", build_control())),
        jobs=jobs,
        workloads={each.uid: workload_of(each, None, Waiting()) for each in newest(jobs)},
        wants_retry=changes.get("wants_retry", False),
    )


def steps(*jobs: JobSeen, **changes: Any) -> Steps:
    return decide_steps(situation(*jobs, **changes), NOON)


def test_where_all_is_as_wanted_nothing_is_done():
    found = steps(*RUNNING)
    assert (found.actions, found.retired, found.superseded) == ((), (), ())


def test_a_job_whose_pod_is_no_longer_as_its_owner_says_makes_way():
    found = steps(*RUNNING[:2], job("bern", digest="of an older image"))
    assert [each.name for each in found.retired] == ["Trainer-bern-1"]
    # Its Pod still holds the site's volume: the next attempt waits until it is gone.
    assert found.actions == ()


def test_a_failed_job_that_makes_way_is_followed_at_once_by_an_attempt_with_another_name():
    found = steps(*RUNNING[:2], job("bern", attempt=3, digest="of an older image", **FAILED))
    assert found.actions == (CreateWorkload(WorkloadRole.TRAINER, "bern", attempt=4),)
    assert "bern" not in {each.site for each in found.workloads}


def test_where_the_store_has_another_address_every_job_makes_way():
    federation = Federation("abdomen", "radiology", build_spec(store=STORE), {})
    there = {each.namespace: each for each in (site("basel"), site("bern"))}
    store = federation.spec.store
    assert store is not None
    said = store_digest(store)
    moved = msgspec.structs.replace(store, endpoint="https://elsewhere.example")
    renewed = msgspec.structs.replace(store, secret_ref=SecretRef("other"))
    jobs = tuple(replace(each, store_digest=said) for each in RUNNING)
    for now, names in ((store, []), (renewed, []), (moved, [None, "basel", "bern"])):
        spec = msgspec.structs.replace(federation.spec, store=now)
        found = steps(*jobs, verdict=Accepted(replace(federation, spec=spec), there, {}))
        assert [each.site for each in found.retired] == names
    # A Job of an earlier version does not say which address it has.
    spec = msgspec.structs.replace(federation.spec, store=moved)
    assert steps(*RUNNING, verdict=Accepted(replace(federation, spec=spec), there, {})).retired == ()


def test_what_is_done_or_being_deleted_makes_way_for_nothing():
    older = {"digest": "of an older image"}
    found = steps(job(None), job("basel", finished_at=NOON, **older), job("bern", deleting=True, **older))
    assert found.retired == ()


def test_attempts_before_the_newest_one_are_swept():
    found = steps(*RUNNING, job("bern", attempt=2))
    assert [each.attempt for each in found.superseded] == [1]


def test_of_an_edit_that_is_not_accepted_nothing_begins_at_a_site():
    control = build_control(sites=("basel", "bern"))
    found = steps(verdict=REFUSED, control=control)
    assert [(each.role, each.site) for each in found.actions] == [(WorkloadRole.AGGREGATOR, None)]


def test_under_an_edit_that_is_not_accepted_no_job_makes_way():
    found = steps(*RUNNING[:2], job("bern", digest="of an older image"), verdict=REFUSED)
    assert (found.retired, found.actions) == ((), ())


def test_under_an_edit_that_is_not_accepted_who_is_absent_leaves():
    left = replace(site("bern"), spec=msgspec.structs.replace(site("bern").spec, allowed_federations=()))
    found = steps(*RUNNING, sites=(left,), verdict=REFUSED)
    write, delete = found.actions
    assert isinstance(write, WriteControl)
    assert list(write.control.members) == ["basel"]
    assert delete == DeleteWorkload(WorkloadRole.TRAINER, "bern", 1)


def test_a_wish_for_another_try_removes_what_failed_and_begins_anew():
    found = steps(job(None), job("basel"), job("bern", attempt=6, **FAILED), wants_retry=True)
    assert [each.site for each in found.retired] == ["bern"]
    assert found.actions == (CreateWorkload(WorkloadRole.TRAINER, "bern", attempt=7),)
    assert found.retries


@pytest.mark.parametrize("wants_retry", [True, False])
def test_where_nothing_failed_no_try_is_granted(wants_retry: bool):
    found = steps(*RUNNING, wants_retry=wants_retry)
    assert (found.retries, found.retired, found.actions) == (False, (), ())
