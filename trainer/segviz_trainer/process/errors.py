"""What a site's owner is told about their data: one clear line per mistake.

File names may be patients'. So each of these has a second text, `outside`, for where others read it.
"""

from collections.abc import Sequence
from pathlib import Path

from segviz_exchange.process.errors import Refusal

_SEE_LOG = "The log of the site's own trainer says which and why."


class BadDataSet(Refusal):
    """A data set cannot be read as its manifest describes it. Names the manifest's field and the path."""

    def __init__(self, field: str, path: Path, reason: str, hint: str) -> None:
        self.field = field
        self.path = path
        self.reason = reason
        self.hint = hint
        super().__init__(f"{field}: {path}: {reason}. {hint}.")

    @property
    def outside(self) -> str:
        return f"{self.field}: the data set cannot be used. {_SEE_LOG}"

    def by_hand(self) -> Refusal:
        """The same where a person named the folder on the command line, and there is no field."""
        return Refusal(f"{self.path}: {self.reason}. {self.hint}.")


class BadCase(Refusal):
    """One case cannot be used: `reason` says what is wrong with the file, `hint` what to do about it."""

    def __init__(self, path: Path, reason: str, hint: str) -> None:
        self.path = path
        self.reason = reason
        self.hint = hint
        super().__init__(f"{path}: {reason}. {hint}.")

    @property
    def outside(self) -> str:
        return f"a case cannot be used. {_SEE_LOG}"


_SKIP = "Fix them, or set spec.onBadCase: Skip to train without them."


class BadCases(Refusal):
    """Every bad case of a site, one line each, so that all can be mended at once."""

    def __init__(self, cases: Sequence[BadCase], total: int, advice: str = _SKIP) -> None:
        self.cases = tuple(cases)
        self.total = total
        lines = "\n".join(f"  {case}" for case in self.cases)
        super().__init__(f"{len(self.cases)} of {total} cases cannot be used:\n{lines}\n{advice}")

    @property
    def outside(self) -> str:
        return f"{len(self.cases)} of {self.total} cases cannot be used. {_SEE_LOG}"

    def advising(self, advice: str) -> "BadCases":
        """The same, where a manifest's fields do not apply."""
        return BadCases(self.cases, self.total, advice)


class Unfit(Refusal):
    """A site that cannot take part, in words for its owner and in words for all."""

    def __init__(self, told: str, outside: str) -> None:
        self.outside = outside
        super().__init__(told)


def outside(error: Refusal, private: Sequence[Path]) -> str:
    """What others may read of a refusal: counts and fields, never a file of the folders `private`."""
    if isinstance(error, BadDataSet | BadCase | BadCases | Unfit):
        return error.outside
    told = str(error)
    if any(str(folder) in told for folder in (*private, *(each.resolve() for each in private))):
        return f"the site refuses. {_SEE_LOG}"
    return told
