"""A federation's prefix in the bucket, with the administrator's eyes."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from minio import Minio

from segviz_exchange.stores.signing import split


@dataclass(frozen=True)
class StoreAddress:
    endpoint: str
    access_key: str
    secret_key: str

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).hostname or ""

    def client(self) -> Minio:
        split = urlsplit(self.endpoint)
        return Minio(split.netloc, self.access_key, self.secret_key, secure=split.scheme == "https")


@dataclass(frozen=True)
class Prefix:
    client: Minio
    bucket: str
    prefix: str

    def keys(self, below: str = "") -> list[str]:
        found = self.client.list_objects(self.bucket, self.prefix + below, recursive=True)
        return sorted(each.object_name.removeprefix(self.prefix) for each in found)

    def read(self, key: str) -> bytes:
        answer = self.client.get_object(self.bucket, self.prefix + key)
        try:
            return answer.read()
        finally:
            answer.close()
            answer.release_conn()

    def write(self, key: str, data: bytes) -> None:
        self.client.put_object(self.bucket, self.prefix + key, io.BytesIO(data), len(data))

    def record(self, key: str) -> dict[str, Any]:
        return json.loads(split(self.read(key))[0])

    def find(self, key: str) -> dict[str, Any] | None:
        return self.record(key) if key in self.keys(key) else None

    def rounds(self) -> dict[int, str]:
        """The digest of each global model."""
        return {record["round"]: record["blob"] for record in self._records("global/rounds/")}

    def exported(self) -> dict[str, str]:
        """The digest of each exported model, by variant."""
        return {record["variant"]: record["blob"] for record in self._records("export/")}

    def _records(self, below: str) -> Iterator[dict[str, Any]]:
        for key in self.keys(below):
            if key.endswith(".json") and key.count("/") == below.count("/"):
                yield self.record(key)
