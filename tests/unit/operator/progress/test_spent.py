"""What noisy updates have spent is told in the status, in the custom resource's, and in the report."""

from pathlib import Path

from rich.console import Console

from builders.synthetic import BASEL, BERN, DIGEST, control_of, update_of
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.records import Final, Round, Spent
from segviz_exchange.stores.folder import FolderStore
from segviz_operator.cluster.status.federation_status import _privacy
from segviz_operator.manifests.schema import FEDERATION, schemas
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.observe import Observer
from segviz_operator.progress.report import build_report
from segviz_operator.progress.status import build_status
from segviz_operator.terminal.tables import print_report

NOISY = {
    1: Spent(clip_norm=1.0, noise_multiplier=8.0, releases=1, delta=1e-5, epsilon=1.25),
    2: Spent(clip_norm=1.0, noise_multiplier=8.0, releases=2, delta=1e-5, epsilon=1.875),
}


def observed(folder: Path) -> FederationRecords:
    store = FolderStore(folder)
    control = control_of({BASEL: ("liver",), BERN: ("spleen",)})
    records = {keys.control(1): control, keys.FINAL: Final(2, 1, {})}
    for round_ in range(3):
        records[keys.round_record(round_)] = Round(round_, 1, DIGEST, 1, (BASEL, BERN))
        for site, spent in ((BASEL, NOISY.get(round_)), (BERN, None)):
            records[keys.update(site, round_, 1)] = update_of(site, round_, privacy=spent)
    for key, record in records.items():
        store.put(key, encode(record))
    return Observer(store).read()


def test_the_status_has_the_newest_of_those_who_add_noise(tmp_path: Path) -> None:
    basel, bern = build_status("abdomen", observed(tmp_path)).sites
    assert basel.privacy == NOISY[2]
    assert bern.privacy is None


def test_the_custom_resource_has_strings_that_its_schema_knows() -> None:
    told = _privacy(NOISY[2])
    assert told == {"epsilon": "1.875", "delta": "1e-05", "releases": 2}
    assert _privacy(Spent(1.0, None, 3, 1e-5, None)) == {"delta": "1e-05", "releases": 3}
    sites = schemas()[FEDERATION]["properties"]["status"]["properties"]["sites"]
    assert set(told) == set(sites["items"]["properties"]["privacy"]["properties"])


def test_the_report_says_it_in_words(tmp_path: Path) -> None:
    report = build_report("abdomen", observed(tmp_path), None)
    assert report is not None
    assert report.privacy == {BASEL: NOISY[2]}
    console = Console(record=True, width=200, quiet=False)
    with console.capture() as captured:
        print_report(report, console)
    assert "basel: 2 protected updates, epsilon 1.875 at delta 1e-05" in captured.get()
