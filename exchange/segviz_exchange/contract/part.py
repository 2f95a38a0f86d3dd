"""What every part of a spec is: frozen, strict, camelCase in JSON."""

import msgspec


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A part of a manifest: immutable, camelCase in JSON, strict about unknown keys."""
