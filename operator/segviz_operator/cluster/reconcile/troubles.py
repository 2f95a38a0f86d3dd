"""Why something could not be made: what fails at one site must not keep the others waiting."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from segviz_operator.cluster.api.client import Conflicting, Forbidden, Invalid, Missing
from segviz_operator.cluster.credentials.store_access import NoCredentials
from segviz_operator.plan.workload import WorkloadRole


@dataclass(frozen=True)
class Troubles:
    found: dict[str, str] = field(default_factory=dict)
    """By alias, or by role for what runs beside the federation."""

    def tell(self, role: WorkloadRole, alias: str | None, message: str) -> None:
        self.found[alias or role.lower()] = message

    @contextmanager
    def kept(self, role: WorkloadRole, alias: str | None) -> Iterator[None]:
        """Faults that a person or the next turn mends end what is tried, and nothing else."""
        try:
            yield
        except (Forbidden, Invalid, Missing, Conflicting) as error:
            self.tell(role, alias, str(error))
        except NoCredentials as error:
            self.tell(role, alias, f"{error.reason}: {error}")
