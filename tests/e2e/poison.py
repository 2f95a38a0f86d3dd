"""What a broken or hostile site writes into its own part of the bucket."""

import hashlib
import json

import numpy as np
from federation import Federation
from safetensors.numpy import load, save


def upload_nan(federation: Federation, alias: str, round_: int, attempt: int) -> None:
    """An update of the right shape with one NaN, recorded as the site's own trainer would."""
    bucket = federation.bucket()
    # Any other site's record and blob say what is expected.
    other = next(each for each in federation.scene.training if each != alias)
    key = f"sites/{other}/updates/{round_ - 1:04d}/1.json"
    record = bucket.record(key)
    tensors = load(bucket.read(f"sites/{other}/blobs/{record['blob']}"))
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
    bucket.write(f"sites/{alias}/updates/{round_:04d}/{attempt}.json", json.dumps(update).encode())
