"""What the dashboards show, as data: `tools/dashboards.py` writes Grafana's JSON from it, the page without
Grafana draws its main panels, and a test asks a real Prometheus every query of it."""

from segviz_operator.dashboards.federation import FEDERATION
from segviz_operator.dashboards.fleet import FLEET
from segviz_operator.dashboards.panel import Panel, Row

DASHBOARDS = {"federation": FEDERATION, "fleet": FLEET}


def panels(rows: tuple[Row, ...]) -> tuple[Panel, ...]:
    return tuple(panel for row in rows for panel in row.panels)
