"""A MinIO whose sessions descend from ordinary users, as in a hospital, and who may take them away."""

import secrets
from dataclasses import dataclass, field
from tempfile import NamedTemporaryFile

from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from integration.object_stores import Server
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.s3 import S3Store
from segviz_operator.access.rights import Access, parent_policy
from segviz_operator.access.sts import Sts

PREFIX = "radiology/abdomen-0a1b2c3d/"


@dataclass
class Ministry:
    server: Server
    bucket: str = field(init=False)
    parent: Credentials = field(init=False)

    def __post_init__(self) -> None:
        self.bucket = self.server.make_bucket()
        self.add_policy(self.bucket, parent_policy(self.bucket))
        self.parent = self.user()

    @property
    def url(self) -> str:
        return self.server.url(self.bucket)

    def add_policy(self, name: str, text: str) -> None:
        with NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            self._admin().policy_add(name, policy_file=file.name)

    def user(self, policy_name: str | None = None) -> Credentials:
        made = Credentials(f"user{secrets.token_hex(4)}", secrets.token_hex(16))
        self._admin().user_add(made.access_key, made.secret_key)
        self._admin().policy_set(policy_name or self.bucket, user=made.access_key)
        return made

    def remove(self, user: Credentials) -> None:
        """And with it all sessions that descend from it, at once."""
        self._admin().user_remove(user.access_key)

    def mint(
        self,
        access: Access,
        seconds: int = 900,
        parent: Credentials | None = None,
        prefix: str = PREFIX,
    ) -> Credentials:
        sts = Sts(f"http://{self.server.address}", parent or self.parent)
        return sts.mint(access, self.bucket, prefix, seconds, "test")

    def store(self, credentials: Credentials) -> S3Store:
        provider = StaticProvider(credentials.access_key, credentials.secret_key, credentials.session_token)
        return S3Store.from_url(self.url, provider)

    def root(self) -> S3Store:
        return self.server.store(self.bucket)

    def environment(self) -> dict[str, str]:
        """For a process that works with the parent's credentials."""
        return {
            "AWS_ACCESS_KEY_ID": self.parent.access_key,
            "AWS_SECRET_ACCESS_KEY": self.parent.secret_key,
        }

    def _admin(self) -> MinioAdmin:
        root = StaticProvider(self.server.access_key, self.server.secret_key)
        return MinioAdmin(endpoint=self.server.address, credentials=root, secure=False)
