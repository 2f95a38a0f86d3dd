"""kubectl as the tests use it: JSON in, JSON out, and waiting with a deadline."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
Object = dict[str, Any]


class KubectlFailed(Exception):
    """With what it said on stderr."""


@dataclass(frozen=True)
class Kube:
    kubectl: str

    def run(self, *arguments: str, stdin: bytes | None = None, seconds: float = 60) -> str:
        command = [self.kubectl, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=seconds)
        if done.returncode != 0:
            raise KubectlFailed(f"{' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace")

    def get(self, kind: str, name: str, namespace: str) -> Object | None:
        found = self.run("get", kind, name, f"--namespace={namespace}", "--ignore-not-found", "-o", "json")
        return json.loads(found) if found.strip() else None

    def listed(self, kind: str, namespace: str | None = None, **labels: str) -> list[Object]:
        where = "--all-namespaces" if namespace is None else f"--namespace={namespace}"
        chosen = ",".join(f"{key}={value}" for key, value in labels.items())
        return json.loads(self.run("get", kind, where, f"--selector={chosen}", "-o", "json"))["items"]

    def selected(self, kind: str, labels: Mapping[str, str]) -> list[Object]:
        """In every namespace."""
        return self.listed(kind, None, **labels)

    def apply(self, *objects: Object) -> None:
        whole = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        arguments = ("apply", "--server-side", "--force-conflicts", "--field-manager=coordinator", "-f", "-")
        self.run(*arguments, stdin=json.dumps(whole).encode())

    def create_raw(self, path: str, body: Object) -> None:
        """A subresource that kubectl has no command for."""
        self.run("create", f"--raw={path}", "-f", "-", stdin=json.dumps(body).encode())

    def patch(self, kind: str, name: str, namespace: str, change: Object) -> None:
        self.run(
            "patch", kind, name, f"--namespace={namespace}", "--type=merge", f"--patch={json.dumps(change)}"
        )

    def delete(
        self, kind: str, name: str, namespace: str, *, wait: bool = False, force: bool = False
    ) -> None:
        now = ("--grace-period=0", "--force") if force else ()
        arguments = (
            kind,
            name,
            f"--namespace={namespace}",
            "--ignore-not-found",
            f"--wait={str(wait).lower()}",
        )
        self.run("delete", *arguments, *now, seconds=180)

    def events(self, namespace: str, name: str) -> list[Object]:
        """About the object of that name, oldest first."""
        found = [each for each in self.listed("events", namespace) if each["involvedObject"]["name"] == name]
        return sorted(found, key=lambda each: each["metadata"]["creationTimestamp"])


def until(what: str, seconds: float, look: Callable[[], T]) -> T:
    """The first truthy thing that is seen.

    Raises:
        AssertionError: nothing was, for so long.
    """
    give_up = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > give_up:
            raise AssertionError(f"not seen in {seconds:.0f} s: {what}; last: {seen!r}")
        time.sleep(0.4)
    return seen
