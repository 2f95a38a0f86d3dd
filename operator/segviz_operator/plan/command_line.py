"""The command line and the environment of each role: in a Pod, as a process here, or at a remote site."""

from dataclasses import dataclass

from segviz_operator.plan.workload import SITE_TASKS, WorkloadRole

Words = tuple[str, ...]

AS_A_CHILD = ("--stop-on-stdin-eof",)
"""For a process whose stdin its parent holds: it ends however the parent dies."""


@dataclass(frozen=True)
class Records:
    """Where the federation's records are."""

    store: str
    prefix: str


@dataclass(frozen=True)
class SiteFolders:
    """Where a site's process finds what is its own."""

    alias: str
    spec: str
    """A file with the site's spec."""
    data: str
    state: str
    """In this federation."""
    home: str | None = None
    """In all its federations. Left out, it is beside `state`; trainers of earlier versions do not know it."""


@dataclass(frozen=True)
class RunFolders:
    """Where what runs beside the sites may write."""

    scratch: str
    models: str
    """For the export."""


def module_of(role: WorkloadRole) -> str:
    return "segviz_aggregator" if role is WorkloadRole.AGGREGATOR else "segviz_trainer"


def command_line(
    role: WorkloadRole, records: Records, folders: SiteFolders | RunFolders, poll_seconds: float | None = None
) -> Words:
    """What follows the program. The pace at which a role looks for news is its own where none is given."""
    where = ("--store", records.store, "--prefix", records.prefix)
    poll = () if poll_seconds is None else ("--poll-seconds", str(poll_seconds))
    match role, folders:
        case WorkloadRole.AGGREGATOR, RunFolders(scratch=scratch):
            return (*where, "--scratch", scratch, *poll)
        case WorkloadRole.EXPORT, RunFolders(scratch=scratch, models=models):
            return ("export", *where, "--scratch", scratch, "--output", models)
        case WorkloadRole.TRAINER, SiteFolders():
            return (SITE_TASKS[role], *where, *_site(folders), *poll)
        case WorkloadRole.EVALUATION, SiteFolders():
            return (SITE_TASKS[role], *where, *_site(folders))
    raise AssertionError(f"{role} does not run in {folders}")


def _site(folders: SiteFolders) -> Words:
    home = () if folders.home is None else ("--home", folders.home)
    return (
        *("--site", folders.alias, "--site-spec", folders.spec),
        *("--data-root", folders.data, "--state", folders.state),
        *home,
    )


def threads_environment(threads: int) -> dict[str, str]:
    """The numerical libraries read these before the manifest is known to the process."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def store_environment(credentials: str, region: str, ca: str | None) -> dict[str, str]:
    """Of a store that is reached with credentials from a file, and perhaps with a CA of its own."""
    trusted = {} if ca is None else {"SEGVIZ_STORE_CA": ca}
    return {"SEGVIZ_STORE_CREDENTIALS": credentials, **trusted, "AWS_REGION": region}


def proxy_environment(url: str, secret: str | None) -> dict[str, str]:
    """Of a site whose stores are behind a proxy: its URL, and the folder with its user, password and CA."""
    return {"SEGVIZ_STORE_PROXY": url, **({} if secret is None else {"SEGVIZ_STORE_PROXY_SECRET": secret})}
