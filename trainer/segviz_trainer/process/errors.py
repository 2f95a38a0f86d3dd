"""What a site's owner is told about their data: one clear line per mistake."""

from collections.abc import Sequence
from pathlib import Path

from segviz_exchange.process.errors import Refusal


class BadDataSet(Refusal):
    """A data set cannot be read as its manifest describes it. Names the manifest's field and the path."""

    def __init__(self, field: str, path: Path, reason: str, hint: str) -> None:
        self.field = field
        self.path = path
        self.reason = reason
        self.hint = hint
        super().__init__(f"{field}: {path}: {reason}. {hint}.")


class BadCase(Refusal):
    """One case cannot be used: `reason` says what is wrong with the file, `hint` what to do about it."""

    def __init__(self, path: Path, reason: str, hint: str) -> None:
        self.path = path
        self.reason = reason
        self.hint = hint
        super().__init__(f"{path}: {reason}. {hint}.")


_SKIP = "Fix them, or set spec.onBadCase: Skip to train without them."


class BadCases(Refusal):
    """Every bad case of a site, one line each, so that all can be mended at once."""

    def __init__(self, cases: Sequence[BadCase], total: int, advice: str = _SKIP) -> None:
        self.cases = tuple(cases)
        self.total = total
        lines = "\n".join(f"  {case}" for case in self.cases)
        super().__init__(f"{len(self.cases)} of {total} cases cannot be used:\n{lines}\n{advice}")

    def advising(self, advice: str) -> "BadCases":
        """The same, where a manifest's fields do not apply."""
        return BadCases(self.cases, self.total, advice)
