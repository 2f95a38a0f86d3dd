"""A short digest of a part of a manifest, to see later whether it still says the same."""

import hashlib
from typing import Any

import msgspec


def digest(part: object) -> str:
    """Sixteen hex digits. A newer version's optional field, left out, changes nothing."""
    said = _without_silence(msgspec.to_builtins(part))
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()[:16]


def _without_silence(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {key: _without_silence(each) for key, each in value.items() if each not in (None, {}, [], ())}
    if isinstance(value, list | tuple):
        return [_without_silence(each) for each in value]
    return value
