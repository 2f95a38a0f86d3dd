"""What each role is told, whoever starts it."""

import pytest

from segviz_operator.plan.command_line import (
    Records,
    RunFolders,
    SiteFolders,
    command_line,
    module_of,
    store_environment,
    threads_environment,
)
from segviz_operator.plan.workload import WorkloadRole as Role

RECORDS = Records("s3://store.example/segviz", "radiology/abdomen-1/")
STORE = "--store s3://store.example/segviz --prefix radiology/abdomen-1/"
BASEL = SiteFolders("basel", "/site.json", "/data", "/state")
SITE = "--site basel --site-spec /site.json --data-root /data --state /state"
BESIDE = RunFolders("/scratch", "/models")

LINES = {
    Role.AGGREGATOR: (BESIDE, f"{STORE} --scratch /scratch"),
    Role.EXPORT: (BESIDE, f"export {STORE} --scratch /scratch --output /models"),
    Role.TRAINER: (BASEL, f"participate {STORE} {SITE}"),
    Role.EVALUATION: (BASEL, f"evaluate {STORE} {SITE}"),
}


@pytest.mark.parametrize("role", Role)
def test_every_role_has_its_command_line(role: Role) -> None:
    folders, expected = LINES[role]
    assert command_line(role, RECORDS, folders) == tuple(expected.split())


def test_a_site_may_keep_what_is_for_all_its_federations_elsewhere() -> None:
    told = command_line(Role.TRAINER, RECORDS, SiteFolders("basel", "/site.json", "/data", "/state", "/home"))
    assert told == (*LINES[Role.TRAINER][1].split(), "--home", "/home")


@pytest.mark.parametrize("role", Role)
def test_only_those_that_look_for_news_are_told_how_often(role: Role) -> None:
    folders, expected = LINES[role]
    told = command_line(role, RECORDS, folders, poll_seconds=0.5)
    waits = role in (Role.AGGREGATOR, Role.TRAINER)
    assert told == (*expected.split(), *(("--poll-seconds", "0.5") if waits else ()))


@pytest.mark.parametrize("role", Role)
def test_a_role_in_the_wrong_folders_is_a_bug(role: Role) -> None:
    wrong = BASEL if LINES[role][0] is BESIDE else BESIDE
    with pytest.raises(AssertionError):
        command_line(role, RECORDS, wrong)


def test_the_aggregator_alone_has_a_module_of_its_own() -> None:
    modules = {role: module_of(role) for role in Role}
    assert modules.pop(Role.AGGREGATOR) == "segviz_aggregator"
    assert set(modules.values()) == {"segviz_trainer"}


def test_numerical_libraries_are_told_their_threads() -> None:
    assert threads_environment(3) == {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}


@pytest.mark.parametrize("ca", [None, "/ca.crt"])
def test_a_store_is_reached_with_a_file_of_credentials(ca: str | None) -> None:
    expected = {"SEGVIZ_STORE_CREDENTIALS": "/credentials.json", "AWS_REGION": "eu"}
    trusted = {} if ca is None else {"SEGVIZ_STORE_CA": ca}
    assert store_environment("/credentials.json", "eu", ca) == expected | trusted
