"""Committed global models, fetched when they are needed and described once."""

from collections.abc import Iterator

from segviz_aggregator.schema import Schema, read_schema
from segviz_aggregator.scratch import Scratch
from segviz_aggregator.verify import square_sum
from segviz_exchange.contract import keys
from segviz_exchange.contract.codec import Array, TensorFile
from segviz_exchange.contract.ledger import read
from segviz_exchange.contract.records import Round
from segviz_exchange.stores.store import Store


class GlobalModel:
    """One committed model beside the schema of round 0: what updates are measured against."""

    def __init__(self, file: TensorFile, schema: Schema, digest: str) -> None:
        self.file = file
        self.schema = schema
        self.digest = digest
        self._square_sums: dict[str, float] = {}

    def square_sum(self, name: str) -> float | None:
        if name not in self.file.infos:
            return None
        if name not in self._square_sums:
            self._square_sums[name] = square_sum(self.file, name)
        return self._square_sums[name]

    def chunks(self, name: str) -> Iterator[Array]:
        return self.file.chunks(name)


class GlobalModels:
    """Holds the newest model; the schema, which never changes, stays."""

    def __init__(self, store: Store, scratch: Scratch) -> None:
        self._store = store
        self._scratch = scratch
        self._schema: Schema | None = None
        self._newest: GlobalModel | None = None

    def reference(self, record: Round | None) -> GlobalModel | None:
        """The model of a committed round; none before round 0."""
        return None if record is None else self.load(record)

    def load(self, record: Round) -> GlobalModel:
        """Raises NotFound or Corrupt where the store has lost or changed a committed model."""
        if self._newest is None or self._newest.digest != record.blob:
            self._newest = GlobalModel(self._fetch(record), self._read_schema(), record.blob)
        return self._newest

    def _read_schema(self) -> Schema:
        if self._schema is None:
            self._schema = read_schema(self._fetch(read(self._store, keys.round_record(0), Round)))
        return self._schema

    def _fetch(self, record: Round) -> TensorFile:
        return self._scratch.fetch(self._store, keys.global_blob(record.blob), record.blob, record.size_bytes)
