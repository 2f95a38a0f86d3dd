"""Who may do what in the bucket: each role's rights as data, and the same as an S3 policy document."""

from dataclasses import dataclass
from typing import Any

import msgspec

from segviz_exchange.contract import keys

_CREDENTIALS = f"{keys.SITES}*/credentials/"
"""What remote sites find their next credentials under: no business of any other reader."""


@dataclass(frozen=True)
class Access:
    """Rights below a federation's prefix. A folder ends with a slash and means all that is under it; "" is
    the whole prefix. What is hidden can be neither read nor written, whatever else is said."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    deletes: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ()
    """May be read, and never be written."""


AGGREGATOR = Access(reads=("global/", keys.SITES, keys.CONTROLS), writes=("global/",), hidden=(_CREDENTIALS,))
EXPORT = Access(reads=("",), writes=(keys.EXPORTS,), hidden=(_CREDENTIALS,))
READER = Access(reads=("",), writes=(), hidden=(_CREDENTIALS,))
"""Whoever fetches a finished model."""
OPERATOR = Access(reads=("",), writes=(keys.CONTROLS, _CREDENTIALS), deletes=("",))
"""The only one that deletes: retention, and a federation's end under `deletionPolicy: Delete`."""


def site_access(alias: str, *, reads_export: bool = False) -> Access:
    """A site's own folder, and what everybody's round needs; an external set also reads the export.

    It may not write its own credentials' folder: a stolen key must not be able to plant the next one.
    """
    own = f"{keys.SITES}{alias}/"
    shared = ("global/", keys.CONTROLS)
    return Access(
        reads=(own, *shared, keys.EXPORTS) if reads_export else (own, *shared),
        writes=(own,),
        guarded=(keys.credentials(alias),),
    )


def policy(access: Access, bucket: str, prefix: str) -> str:
    """The S3 policy document, with which a session's rights are limited.

    It is compact, as AWS takes 2048 characters, and grants no right on the bucket but to list these folders:
    without that right a missing object would look forbidden.
    """
    statements: list[dict[str, Any]] = [
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": [f"arn:aws:s3:::{bucket}"],
            "Condition": {"StringLike": {"s3:prefix": [f"{prefix}{folder}*" for folder in access.reads]}},
        },
        _statement("Allow", ["s3:GetObject"], bucket, prefix, access.reads),
        # A large blob goes up in parts; a broken upload's parts are its own to remove.
        _statement("Allow", ["s3:PutObject", "s3:AbortMultipartUpload"], bucket, prefix, access.writes),
        _statement("Allow", ["s3:DeleteObject"], bucket, prefix, access.deletes),
        _statement("Deny", ["s3:GetObject", "s3:PutObject"], bucket, prefix, access.hidden),
        _statement("Deny", ["s3:PutObject"], bucket, prefix, access.guarded),
    ]
    document = {
        "Version": "2012-10-17",
        "Statement": [statement for statement in statements if statement["Resource"]],
    }
    return msgspec.json.encode(document).decode()


def parent_policy(bucket: str) -> str:
    """For `store.secretRef`: what a session gets is at most what its parent may."""
    actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    document = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [f"arn:aws:s3:::{bucket}"]},
            {"Effect": "Allow", "Action": actions, "Resource": [f"arn:aws:s3:::{bucket}/*"]},
        ],
    }
    return msgspec.json.encode(document).decode()


def _statement(
    effect: str, actions: list[str], bucket: str, prefix: str, folders: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "Effect": effect,
        "Action": actions,
        "Resource": [f"arn:aws:s3:::{bucket}/{prefix}{folder}*" for folder in folders],
    }
