"""What tensors a federation's models have: read from the model that round 0 committed."""

from dataclasses import dataclass

import msgspec

from segviz_exchange.contract import sharing
from segviz_exchange.contract.codec import InvalidTensors, TensorFile, TensorInfo
from segviz_exchange.contract.records import Control
from segviz_exchange.contract.sharing import COUNTER, KINDS, REPRESENTATION, TensorGroup


@dataclass(frozen=True)
class Schema:
    infos: dict[str, TensorInfo]
    groups: dict[str, TensorGroup]

    def extended(self, control: Control) -> "Schema":
        """With heads for the organs that have joined since."""
        return Schema(*sharing.with_organs(self.infos, self.groups, control.organs))

    @property
    def heads(self) -> tuple[str, ...]:
        return tuple(sorted({group.block for group in self.groups.values()} - {REPRESENTATION}))

    @property
    def size_bytes(self) -> int:
        """Of all its tensors."""
        return sum(info.size_bytes for info in self.infos.values())

    def shared_by(self, site: str, control: Control) -> dict[str, TensorInfo]:
        """What that site uploads in a round, by name, sorted."""
        return {name: self.infos[name] for name in sharing.shared_by(site, self.groups, control)}

    def difference(self, other: "Schema") -> str | None:
        """The first tensor in which two schemas differ, as 'mine, theirs'."""
        for name in sorted(self.infos.keys() | other.infos.keys()):
            mine, theirs = self._describe(name), other._describe(name)
            if mine != theirs:
                return f"tensor {name!r} is {mine} here and {theirs} there"
        return None

    def _describe(self, name: str) -> str:
        if name not in self.infos:
            return "absent"
        info, group = self.infos[name], self.groups[name]
        return f"{info.dtype} {list(info.shape)}, {group.block} {group.kind}"


def read_schema(file: TensorFile) -> Schema:
    """The schema of a whole model, which carries its groups as metadata.

    Raises:
        InvalidTensors: the groups are absent, or are not those of exactly these tensors.
    """
    text = file.metadata.get(sharing.GROUPS)
    if text is None:
        raise InvalidTensors(f"{file.path.name}: its metadata has no {sharing.GROUPS!r}")
    try:
        groups = sharing.decode_groups(text)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidTensors(f"{file.path.name}: its groups are unreadable: {error}") from error
    unmatched = sorted(groups.keys() ^ file.infos.keys())
    if unmatched:
        raise InvalidTensors(
            f"{file.path.name}: tensor {unmatched[0]!r} is in the file or in its groups, but not in both"
        )
    for name, group in groups.items():
        if group.kind not in KINDS:
            raise InvalidTensors(f"{file.path.name}: tensor {name!r} is of kind {group.kind!r}")
        if file.infos[name].dtype[0] != "F" and group.kind != COUNTER:
            raise InvalidTensors(f"{file.path.name}: tensor {name!r} holds integers but is not a counter")
    return Schema(dict(file.infos), groups)
