"""The folder of a study: everything that is needed to go on lies in it.

rows/<row>/manifests.yaml    the row's federation and all sites
rows/<row>/run/              the working folder of its `segviz run`
rows/<row>/fold-<k>/…        the same of each fold, where cases rotate
cache/<site>/                cached images, shared by the rows: private
salt                         of the case ids that leave a site: one for all rows, so that cases can be paired
scores/<row>-fold-<k>.csv    scores of finished folds, where cases rotate (or where --scores says)
study.json                   what the report reads
report.html, …               the report (segviz_trainer.study)
"""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import msgspec
import yaml

from segviz_exchange.contract.run import RunHere, SiteHere
from segviz_exchange.contract.study import INDEX, KeptFile, StudyIndex
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.writing import PRIVATE, write_whole
from segviz_exchange.stores.opening import open_store
from segviz_operator.local.volumes import Volumes
from segviz_operator.local.workdir import WorkDir
from segviz_operator.manifests.manifest import Site, Study
from segviz_operator.study.kept import Shelf
from segviz_operator.study.rows import Row


class StudyFolder:
    def __init__(self, root: Path, scores: Path | None = None) -> None:
        self.root = root.resolve()
        self.index = self.root / INDEX
        self.shelf = Shelf((scores or self.root / "scores").resolve())

    def workdir(self, row: Row) -> WorkDir:
        return WorkDir(self._row(row) / "run")

    def check_code(self, row: Row, code: str) -> None:
        """Remember which code a row begins with.

        Raises:
            Refusal: it began with other code, which its scores could not say.
        """
        path = self._row(row) / "code"
        if self.workdir(row).identity() is None or not path.exists():
            write_whole(path, code.encode())
        elif (begun := path.read_text(encoding="utf-8")) != code:
            raise Refusal(
                f"{path}: this row and fold began with other code (digest {begun}; it is {code} now). Finish "
                "it with the version that began it, or remove its folder to begin anew."
            )

    def prepare(self, row: Row, sites: Iterable[Site]) -> Path:
        """Make all that a row's run needs; its manifests.

        Raises:
            Refusal: there can be no such folder.
        """
        manifests = self._row(row) / "manifests.yaml"
        try:
            for each in (self.root, self._row(row)):
                each.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            objects = [row.accepted.federation.raw, *(site.raw for site in sites)]
            write_whole(manifests, yaml.safe_dump_all(map(_plain, objects), sort_keys=False).encode())
            for alias in row.accepted.everyone:
                self._prepare_state(self.workdir(row).state(alias), alias)
        except OSError as error:
            raise Refusal(
                f"{self.root}: cannot be a --workdir: {error.strerror}. Name a folder that you may write to."
            ) from error
        return manifests

    def keep(self, row: Row, code: str) -> None:
        """The scores of a complete row and fold."""
        identity = self.workdir(row).identity()
        if row.fold is not None and identity is not None:
            self.shelf.keep(row, open_store(identity.store).scoped(identity.prefix), code)

    def write_index(self, study: Study, rows: Iterable[Row], volumes: Volumes) -> None:
        rows = tuple(rows)
        index = StudyIndex(
            name=study.key,
            rows=tuple(found for row in rows if (found := self._index_row(row, volumes))),
            planned=tuple(dict.fromkeys(row.name for row in rows)),
            baseline=study.spec.baseline,
            central=study.spec.central,
            worst_cases=study.spec.worst_cases,
            under_test=study.spec.under_test,
            folds=study.spec.rotate.folds if study.spec.rotate else None,
            kept=tuple(self._kept(row) for row in rows if row.fold and self.shelf.file(row).exists()),
        )
        self.root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        write_whole(self.index, msgspec.json.format(msgspec.json.encode(index)) + b"\n")

    def _kept(self, row: Row) -> KeptFile:
        spec, members = row.accepted.federation.spec, row.accepted.members
        organs = sorted({organ for site in members.values() for organ in site.spec.organs})
        assert row.fold is not None, "only folds are kept"
        return KeptFile(
            row=row.name,
            fold=row.fold,
            path=str(self.shelf.file(row)),
            algorithm=spec.algorithm.name,
            objective=spec.objective,
            rounds=spec.rounds,
            owners={
                organ: tuple(alias for alias, site in sorted(members.items()) if organ in site.spec.organs)
                for organ in organs
            },
        )

    def _index_row(self, row: Row, volumes: Volumes) -> RunHere | None:
        """None where it has not begun."""
        workdir = self.workdir(row)
        identity = workdir.identity()
        if identity is None:
            return None
        sites = row.accepted.everyone
        roots = volumes.of(sites).roots(row.accepted)
        return RunHere(
            name=row.name,
            store=os.path.relpath(identity.store, self.root),
            prefix=identity.prefix,
            fold=row.fold,
            sites={
                alias: SiteHere(
                    spec=site.spec,
                    data_root=str(roots[alias]),
                    state=str(workdir.state(alias).relative_to(self.root)),
                )
                for alias, site in sorted(sites.items())
            },
        )

    def _row(self, row: Row) -> Path:
        return self.root / "rows" / row.folder

    def _prepare_state(self, state: Path, alias: str) -> None:
        """A site's private folder, with what it shares with itself in other rows."""
        state.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        if not (state / "salt").exists():
            write_whole(state / "salt", self._salt())
        cache = self.root / "cache" / alias
        cache.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        if not (state / "cache").exists():
            (state / "cache").symlink_to(os.path.relpath(cache, state))

    def _salt(self) -> bytes:
        kept = self.shelf.root / "salt"
        path = kept if kept.exists() else self.root / "salt"
        if not path.exists():
            write_whole(path, secrets.token_hex(16).encode())
        return path.read_bytes()


def _plain(raw: object) -> object:
    """Builtins alone, as YAML's safe dumper wants them."""
    return msgspec.to_builtins(raw)
