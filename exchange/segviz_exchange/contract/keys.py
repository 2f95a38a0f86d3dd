"""Where each record lies, relative to a federation's prefix.

`control/` belongs to the operator or runner, `global/` to the aggregator, `sites/<site>/` to that site,
`export/` to the evaluation. Round numbers are padded so that a listing sorts as time does.
"""

import re

CONTROLS = "control/"
HOLDERS = "control/holders/"
GLOBAL = "global/"
CLOSINGS = "global/closings/"
ROUNDS = "global/rounds/"
FAILURES = "global/failures/"
REJECTIONS = "global/rejections/"
SITES = "sites/"
FINAL = "global/final.json"
EXPORTS = "export/"
AGGREGATOR_PROGRESS = "global/progress.json"

_UID = re.compile(r"-(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{8})\Z")
"""As Kubernetes, and as a local run, make one."""
_NUMBERED = re.compile(r"([0-9]{1,18})\.json")


def federation_prefix(namespace: str, name: str, uid: str) -> str:
    """One prefix per federation and incarnation, so that one made again never meets its past."""
    return f"{namespace}/{name}-{uid}/"


def federation_of(prefix: str) -> tuple[str, str]:
    """Namespace and name, for people and metrics; the other way from `federation_prefix`."""
    namespace, _, rest = prefix.strip("/").rpartition("/")
    return namespace, _UID.sub("", rest)


def control(number: int) -> str:
    return f"{CONTROLS}{number:04d}.json"


def holder(number: int) -> str:
    return f"{HOLDERS}{number:04d}.json"


def closing(round_: int) -> str:
    return f"{CLOSINGS}{round_:04d}.json"


def round_record(round_: int) -> str:
    return f"{ROUNDS}{round_:04d}.json"


def failure(round_: int, control_number: int) -> str:
    """A failure holds under one control; a newer control may mend it."""
    return f"{FAILURES}{round_:04d}/{control_number:04d}.json"


def global_blob(digest: str) -> str:
    return f"global/blobs/{digest}"


def all_rejections(site: str) -> str:
    return f"{REJECTIONS}{site}/"


def rejections(site: str, round_: int) -> str:
    return f"{all_rejections(site)}{round_:04d}/"


def rejection(site: str, round_: int, attempt: int) -> str:
    return f"{rejections(site, round_)}{attempt}.json"


def rejected(key: str) -> tuple[str, int, int]:
    """Site, round and attempt of a rejection's key."""
    site, round_, attempt = key.removeprefix(REJECTIONS).split("/")
    return site, int(round_), int(attempt.removesuffix(".json"))


def site(alias: str) -> str:
    """All that a site may write lies below."""
    return f"{SITES}{alias}/"


def leases(site: str) -> str:
    return f"{SITES}{site}/leases/"


def lease(site: str, number: int) -> str:
    return f"{leases(site)}{number:06d}.json"


def all_updates(site: str) -> str:
    return f"{SITES}{site}/updates/"


def updates(site: str, round_: int) -> str:
    return f"{all_updates(site)}{round_:04d}/"


def update(site: str, round_: int, attempt: int) -> str:
    return f"{updates(site, round_)}{attempt}.json"


def site_blob(site: str, digest: str) -> str:
    return f"{SITES}{site}/blobs/{digest}"


def all_scores(site: str) -> str:
    return f"{SITES}{site}/scores/"


def scores(site: str, round_: int) -> str:
    return f"{all_scores(site)}{round_:04d}.json"


def outcome(site: str) -> str:
    return f"{SITES}{site}/outcome.json"


def release_blob(site: str, digest: str) -> str:
    return f"{SITES}{site}/release/{digest}"


def external_scores(site: str) -> str:
    return f"{SITES}{site}/external.json"


def has_rows(key: str) -> bool:
    """Whether this is where a site's outcome or external scores lie."""
    site = key.removeprefix(SITES).partition("/")[0]
    return key in (outcome(site), external_scores(site))


def progress(site: str) -> str:
    return f"{SITES}{site}/progress.json"


def credentials(site: str) -> str:
    """Where a remote site finds its next credentials; the operator alone writes there."""
    return f"{SITES}{site}/credentials/"


def credential(site: str, number: int) -> str:
    return f"{credentials(site)}{number:06d}.json"


def preflights(site: str) -> str:
    return f"{SITES}{site}/preflight/"


def preflight(site: str, lease: int) -> str:
    return f"{preflights(site)}{lease:06d}.json"


def exported(variant: str) -> str:
    return f"export/{variant}.json"


def exported_blob(digest: str) -> str:
    return f"export/blobs/{digest}"


def is_news(key: str) -> bool:
    """Whether a change of this object may be what somebody waits for: any but a heartbeat's."""
    return not key.endswith("/progress.json")


def number_of(key: str) -> int:
    """The round, attempt, lease or control that a numbered key ends with."""
    return int(key.rsplit("/", 1)[-1].removesuffix(".json"))


def number_below(prefix: str, key: str) -> int | None:
    """The same of a key directly under `prefix`; none for what else may lie there."""
    match = _NUMBERED.fullmatch(key.removeprefix(prefix))
    return int(match[1]) if match else None
