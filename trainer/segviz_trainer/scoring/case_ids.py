"""What a case is called: at its site, and where it leaves it."""

import hashlib
import secrets
from collections.abc import Sequence
from typing import Protocol

import msgspec

from segviz_exchange.contract.choices import Scores
from segviz_exchange.contract.records import CaseScore
from segviz_trainer.process.site import Site


def may_leave(rows: Sequence[CaseScore], policy: Scores, salt: str) -> tuple[CaseScore, ...]:
    """The case rows that a site lets out: none, or all under ids that only the site can trace back."""
    if policy is Scores.SUMMARY:
        return ()
    return tuple(msgspec.structs.replace(row, case=salted(row.case, salt)) for row in rows)


class Named(Protocol):
    """A case, prepared or not."""

    @property
    def id(self) -> str: ...

    @property
    def data_set(self) -> str: ...


def case_name(case: Named) -> str:
    """Ids are unique within their data set alone: two data sets of one site may both have a case 1."""
    return f"{case.data_set}/{case.id}"


def salted(name: str, salt: str) -> str:
    """The id under which a case leaves its site."""
    return hashlib.sha256(f"{salt}/{name}".encode()).hexdigest()[:12]


def salt_of(site: Site) -> str:
    """A secret of the site's own, made once, so that nobody else can guess case ids from their digests."""
    path = site.state / "salt"
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_text(secrets.token_hex(16), encoding="utf-8")
        partial.rename(path)
    return path.read_text(encoding="utf-8")
