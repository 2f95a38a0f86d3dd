"""What people want, from the manifests that a local run was given; read again whenever they are edited."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segviz_exchange.process.errors import Refusal
from segviz_operator.manifests.acceptance import accept
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.manifests.manifest import Federation, load, parse
from segviz_operator.manifests.past import Past

Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class ManifestFiles:
    """The files and folders named on the command line."""

    paths: tuple[Path, ...]

    def signature(self) -> Signature:
        """Changes when a file does. A file that is being replaced just now simply is not there."""
        found = []
        for path in self.paths:
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            for file in files:
                try:
                    status = file.stat()
                except FileNotFoundError:
                    continue
                found.append((str(file), status.st_mtime_ns, status.st_size))
        return tuple(found)

    def name(self) -> str:
        """The federation's, whether or not its sites fit it. Raises Refusal."""
        return _only(load(self.paths).federations, self.paths).name

    def read(self, past: Past | None) -> Accepted:
        """The one federation in the files and its sites.

        Args:
            past: what the run in this folder has been built upon, where one has begun.

        Raises:
            Refusal: a manifest is invalid, or changes what may not change any more.
        """
        manifests = load(self.paths)
        federation = _only(manifests.federations, self.paths)
        if not manifests.sites:
            raise Refusal(
                f"{_listed(self.paths)}: no SegVizSite found. Add the manifests of its sites: "
                "segviz run federation.yaml sites.yaml"
            )
        if past is None or past.key != federation.key:
            return accept(federation, manifests.sites)
        # The same rules as the API server's, which know by a round in the status that training has begun.
        # Here it has as soon as a site is at work.
        before = {**past.manifest, "status": {"currentRound": 0} if past.bound else {}}
        parse(federation.raw, str(federation), old=before)
        return accept(federation, manifests.sites, past)


class Edits:
    """Notices that the files were edited, once nobody is half-way through writing them."""

    def __init__(self, files: ManifestFiles) -> None:
        self._files = files
        self._taken = self._seen = files.signature()

    def take(self) -> bool:
        """Whether there is an edit that was not taken before; from now on it was."""
        signature = self._files.signature()
        settled = signature == self._seen  # seen twice alike
        self._seen = signature
        if not settled or signature == self._taken:
            return False
        self._taken = signature
        return True


def _only(federations: Sequence[Federation], paths: Sequence[Path]) -> Federation:
    files = _listed(paths)
    if not federations:
        raise Refusal(f"{files}: no SegVizFederation found. Give its manifest and those of its sites.")
    if len(federations) > 1:
        names = ", ".join(federation.key for federation in federations)
        raise Refusal(f"{files}: {len(federations)} federations found ({names}). Run one at a time.")
    return federations[0]


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
