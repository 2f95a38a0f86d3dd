"""What a broken or hostile site writes into its own part of the bucket."""

import base64
import hashlib
import json

import numpy as np
from federation import Federation
from kube import until
from safetensors.numpy import load, save

from segviz_exchange.stores.signing import parse_private, sign


def upload_nan(federation: Federation, alias: str, like: str, round_: int, attempt: int) -> None:
    """An update of the right shape with one NaN, recorded as the site's own trainer would.

    Args:
        like: a site with the same organs, whose update of that round says what is expected.
    """
    bucket = federation.bucket()
    key = f"sites/{like}/updates/{round_:04d}/1.json"
    record = until(f"{like}'s update", 60, lambda: bucket.find(key))
    tensors = load(bucket.read(f"sites/{like}/blobs/{record['blob']}"))
    name = next(each for each in sorted(tensors) if tensors[each].dtype == np.float32)
    tensors[name] = tensors[name].copy()
    tensors[name].flat[0] = np.nan
    blob = save(tensors)
    digest = hashlib.sha256(blob).hexdigest()
    bucket.write(f"sites/{alias}/blobs/{digest}", blob)
    update = {
        **record,
        "site": alias,
        "round": round_,
        "attempt": attempt,
        "blob": digest,
        "sizeBytes": len(blob),
    }
    key = f"sites/{alias}/updates/{round_:04d}/{attempt}.json"
    secret = federation.kube.get("secret", f"{alias}-key", alias)
    assert secret is not None, "the site's chart has made its key"
    private = parse_private(base64.b64decode(secret["data"]["private.pem"]), alias)
    bucket.write(key, sign(private, bucket.prefix + key, json.dumps(update).encode() + b"\n", None))
