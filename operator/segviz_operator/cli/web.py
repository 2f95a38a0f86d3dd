"""`segviz status --web`: the page of one working folder, whether something runs in it or not."""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import click

from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.http_pages import METRICS_TYPE, Answer, Pages, own_hosts
from segviz_exchange.process.stopping import Stop
from segviz_exchange.stores.store import StoreError
from segviz_operator.local.workdir import WorkDir
from segviz_operator.progress.observe import Observer
from segviz_operator.progress.status import build_status
from segviz_operator.watch.from_prometheus import PrometheusCurves
from segviz_operator.watch.metrics import FederationMetrics
from segviz_operator.watch.page import StatusPage
from segviz_operator.watch.samples import Watched

_FRESH_SECONDS = 1.0
"""However many look at the page, the store is read no more often."""


class FolderView:
    """The folder's federation, read anew when somebody looks."""

    def __init__(self, workdir: WorkDir) -> None:
        """Raises Refusal."""
        self._workdir = workdir
        identity = workdir.identity()
        if identity is None:
            raise Refusal(
                f"{workdir.root}: no federation has run here. Give the --workdir of a `segviz run`."
            )
        self._observer = Observer(identity.open_store())
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._watched: tuple[Watched, ...] = ()
        try:
            self()
        except StoreError as error:
            raise Refusal(f"store {identity.store}: {type(error).__name__}: {error}.") from error

    def __call__(self) -> tuple[Watched, ...]:
        with self._lock:
            if time.monotonic() - self._read_at > _FRESH_SECONDS:
                self._watched, self._read_at = (self._read(),), time.monotonic()
            return self._watched

    def metrics(self, _: Mapping[str, str]) -> Answer:
        """What a `segviz run --metrics-port` says, also of a run that is over."""
        shown = FederationMetrics()
        for each in self():
            shown.show(each)
        return Answer(shown.text(), METRICS_TYPE)

    def _read(self) -> Watched:
        identity = self._workdir.identity()
        assert identity is not None, "it was there when the page was opened"
        records = self._observer.read()
        status = build_status(identity.name, records, paused=identity.suspended_sites)
        return Watched(identity.namespace, identity.name, status, records, datetime.now(UTC))


def serve_page(workdir: WorkDir, port: int, bind: str, prometheus: str | None, stop: Stop) -> None:
    view = FolderView(workdir)
    curves = None if prometheus is None else PrometheusCurves(prometheus)
    page = StatusPage(view) if curves is None else StatusPage(view, curves, curves.url)
    try:
        pages = Pages({"/": page, "/metrics": view.metrics}, port, bind, own_hosts(bind))
    except OSError as error:
        raise Refusal(f"--port {port}: {error.strerror}. Choose another port.") from error
    host = f"[{bind}]" if ":" in bind else bind
    click.echo(f"http://{host}:{pages.port}/  (Ctrl-C ends it)")
    while not stop.wait(3600):
        pass
    pages.close()
