"""Whether a site's namespace lets a federation in, and how long an answer counts."""

from dataclasses import dataclass, field
from typing import Any

from segviz_operator.cluster.api.client import Forbidden, Kind
from segviz_operator.cluster.api.names import Subject, consent_name
from segviz_operator.cluster.membership.consent import NO_SECONDS, YES_SECONDS, Consents
from segviz_operator.cluster.objects.jobs import JobSeen, job_seen
from segviz_operator.cluster.objects.pod import Owner

SUBJECT = Subject("radiology", "abdomen", "uid-1")
NAME = consent_name("radiology", "abdomen")
GIVEN = Owner("rbac.authorization.k8s.io/v1", "RoleBinding", NAME, "rb-1")


@dataclass
class Namespace:
    """What the API server says of one RoleBinding."""

    binding: dict[str, Any] | None = None
    forbidden: bool = False
    asked: int = 0

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        assert (kind.plural, namespace, name) == ("rolebindings", "basel", NAME)
        self.asked += 1
        if self.forbidden:
            raise Forbidden("403")
        return self.binding


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    namespace: Namespace
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.consents = Consents(self.namespace, self.clock)

    def of(self, *jobs: JobSeen) -> Owner | None:
        return self.consents.of(SUBJECT, "basel", jobs)


def binding(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": NAME, "namespace": "basel", "uid": "rb-1", **metadata}}


def job(owner: str = NAME, namespace: str = "basel", uid_of_owner: str = "rb-1", **metadata: Any) -> JobSeen:
    reference = {"apiVersion": GIVEN.api_version, "kind": GIVEN.kind, "name": owner, "uid": uid_of_owner}
    named = {"namespace": namespace, "name": "job", "uid": "job-1", "ownerReferences": [reference]}
    labels = {"segviz.dev/role": "trainer", "segviz.dev/site": "basel", "segviz.dev/attempt": "1"}
    seen = job_seen({"metadata": {**named, "labels": labels, **metadata}, "spec": {}})
    assert seen is not None
    return seen


def test_a_role_binding_is_the_consent():
    assert Scene(Namespace(binding())).of() == GIVEN


def test_none_and_one_that_may_not_be_read_both_mean_no():
    assert Scene(Namespace()).of() is None
    assert Scene(Namespace(binding(), forbidden=True)).of() is None


def test_one_that_is_being_deleted_is_withdrawn():
    assert Scene(Namespace(binding(deletionTimestamp="2026-11-24T12:00:00Z"))).of() is None


def test_a_job_that_the_consent_owns_proves_it_without_another_question():
    scene = Scene(Namespace(binding()))
    for _ in range(3):
        assert scene.of(job()) == GIVEN
        scene.clock.now += YES_SECONDS
    assert scene.namespace.asked == 1


def test_a_job_alone_proves_no_consent_whatever_owner_is_written_on_it():
    assert Scene(Namespace()).of(job()) is None


def test_a_job_that_is_being_deleted_or_is_elsewhere_or_somebody_elses_proves_nothing():
    deleted = job(deletionTimestamp="2026-11-24T12:00:00Z")
    for proof in (deleted, job(namespace="bern"), job(owner="another"), job(uid_of_owner="rb-2")):
        scene = Scene(Namespace(binding()))
        assert scene.of(proof) == GIVEN
        scene.namespace.binding = None
        scene.clock.now += YES_SECONDS
        assert scene.of(proof) is None


def test_a_yes_and_a_no_are_asked_again_each_in_its_time():
    for there, seconds in ((binding(), YES_SECONDS), (None, NO_SECONDS)):
        scene = Scene(Namespace(there))
        for passed, asked in ((0.0, 1), (seconds - 1, 1), (1.0, 2)):
            scene.clock.now += passed
            scene.of()
            assert scene.namespace.asked == asked


def test_what_is_forgotten_is_asked_again():
    scene = Scene(Namespace(binding()))
    scene.of()
    scene.consents.forget(SUBJECT)
    scene.namespace.binding = None
    assert scene.of() is None


def test_forgetting_one_federation_keeps_what_is_known_of_another():
    scene = Scene(Namespace(binding()))
    scene.of()
    scene.consents.forget(Subject("radiology", "thorax", "uid-2"))
    scene.of()
    assert scene.namespace.asked == 1
