"""Where a site's images lie on this machine."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from segviz_exchange.process.errors import Refusal
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.manifests.manifest import Site
from segviz_operator.manifests.problem import nearest


@dataclass(frozen=True)
class Volumes:
    """Local folders in place of PersistentVolumeClaims: one for all sites, or one for each alias."""

    common: Path | None
    by_alias: Mapping[str, Path]

    def roots(self, accepted: Accepted) -> dict[str, Path]:
        """Each site's folder, training and external ones, by alias; remote sites have none here.

        Raises:
            Refusal: a site has no folder, or one that is not there.
        """
        here = {alias: site for alias, site in accepted.everyone.items() if not site.spec.remote}
        return {alias: self._root(alias, site) for alias, site in sorted(here.items())}

    def of(self, aliases: Iterable[str]) -> "Volumes":
        """The same for some sites alone."""
        wanted = set(aliases)
        return Volumes(self.common, {alias: root for alias, root in self.by_alias.items() if alias in wanted})

    def check_aliases(self, known: Iterable[str]) -> None:
        """`known` has also the sites that have left, so that the command need not change with them.

        Raises:
            Refusal: a folder is given for a site that does not take part.
        """
        aliases = sorted(set(known))
        for alias in self.by_alias:
            if alias not in aliases:
                guess = nearest(alias, aliases)
                hint = f"Did you mean {guess}?" if guess else f"The sites are {', '.join(aliases)}."
                raise Refusal(f"--data {alias}={self.by_alias[alias]}: there is no site {alias!r}. {hint}")

    def _root(self, alias: str, site: Site) -> Path:
        volume = site.spec.volume
        if alias in self.by_alias:
            root, where = self.by_alias[alias], f"--data {alias}={self.by_alias[alias]}"
        elif volume.host_path is not None:
            root = Path(volume.host_path.path)
            where = f"spec.volume.hostPath.path {root} of {site}"
        elif self.common is not None:
            root, where = self.common, f"--data {self.common}"
        else:
            assert volume.persistent_volume_claim is not None, "the schema wants one of the two"
            claim = volume.persistent_volume_claim.claim_name
            raise Refusal(
                f"site {alias!r}: its images are in the claim {claim!r} of a cluster. Say where they are "
                f"here: --data {alias}=FOLDER, or --data FOLDER for all sites."
            )
        if not root.is_dir():
            raise Refusal(f"site {alias!r}: {where} is not a folder. Correct the path.")
        for data_set in site.spec.data_sets:
            if not (root / data_set.path).exists():
                raise Refusal(
                    f"site {alias!r}: its data set {data_set.name!r} has path {data_set.path}, which does "
                    f"not exist in {where}. Correct one of the two, or copy the data there."
                )
        return root.resolve()


def parse_volumes(options: Iterable[str]) -> Volumes:
    """From `--data FOLDER` and `--data ALIAS=FOLDER`.

    Raises:
        Refusal: the same is said twice, or no folder is.
    """
    common: Path | None = None
    by_alias: dict[str, Path] = {}
    for option in options:
        alias, equals, folder = option.partition("=")
        if not folder if equals else not alias:
            raise Refusal(f"--data {option or '(nothing)'}: names no folder. Write FOLDER, or ALIAS=FOLDER.")
        if not equals or Path(option).is_dir():
            if common is not None:
                raise Refusal(
                    f"--data {option}: --data {common} is given too. Write ALIAS=FOLDER for one site."
                )
            common = Path(option)
        elif alias in by_alias:
            raise Refusal(
                f"--data {option}: --data {alias}={by_alias[alias]} is given too. Keep one of them."
            )
        else:
            by_alias[alias] = Path(folder)
    return Volumes(common, by_alias)
