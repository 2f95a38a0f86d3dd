"""What the dashboards show, as data: `tools/dashboards.py` writes Grafana's JSON from it, the page without
Grafana draws its main panels, and a test asks a real Prometheus every query of it."""

from dataclasses import dataclass
from enum import StrEnum


class Marker(StrEnum):
    """Why a panel may be empty in a healthy run."""

    FAILURE_ONLY = "failure-only"
    GPU_ONLY = "gpu-only"
    CLUSTER_ONLY = "cluster-only"


class Shape(StrEnum):
    TIME = "time"
    BARS = "stacked bars over time"
    STAT = "stat"
    GAUGE = "bar gauge"
    TABLE = "table"
    STATES = "state timeline"


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    title: str
    description: str
    unit: str
    """Of Grafana's."""
    queries: tuple[Query, ...]
    runbook: str
    """A page of docs/runbooks."""
    shape: Shape = Shape.TIME
    width: int = 12
    """Of 24."""
    height: int = 8
    marker: Marker | None = None
    states: tuple[str, ...] = ()
    """Names of the values 1, 2, … of a state timeline."""


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


F = 'federation_namespace=~"$namespace",federation=~"$federation"'
S = f'{F},site=~"$site"'
FEDERATION_PHASES = (*("Pending", "Training", "FineTuning", "Evaluating", "Complete", "Failed", "Suspended"),)
SITE_PHASES = (
    *("Starting", "Preparing", "Waiting", "Scoring", "Training", "FineTuning", "Testing", "Done"),
    *("Restarting", "Silent", "Suspended", "LeftOut", "Failed"),
)
_FEDERATION = "{{federation_namespace}}/{{federation}}"


def _coded(metric: str, selector: str, phases: tuple[str, ...], by: str) -> str:
    """The phase as its place in the list, counted from 1: a state timeline draws numbers."""
    terms = (
        f'{number} * {metric}{{{selector},phase="{phase}"}}' for number, phase in enumerate(phases, start=1)
    )
    return f"max by ({by}) ({' or '.join(terms)})"


def _q(expr: str, legend: str = "{{site}}") -> tuple[Query, ...]:
    return (Query(expr, legend),)


PROGRESS = Panel(
    "Progress",
    "Share of all rounds that is done, the open round in part.",
    "percentunit",
    _q(f"segviz_federation_progress_ratio{{{F}}}", _FEDERATION),
    "round-overdue",
    Shape.GAUGE,
    width=8,
    height=4,
)
ROUND = Panel(
    "Round",
    "The newest committed round, and how many are asked for.",
    "none",
    (
        Query(f"segviz_federation_round{{{F}}}", "committed"),
        Query(f"segviz_federation_rounds{{{F}}}", "asked for"),
    ),
    "round-overdue",
    Shape.STAT,
    width=4,
    height=4,
)
PHASE = Panel(
    "Phase",
    "Where the federation is; Failed and Suspended wait for a person.",
    "none",
    _q(
        _coded("segviz_federation_phase", F, FEDERATION_PHASES, "federation_namespace, federation"),
        _FEDERATION,
    ),
    "federation-failed",
    Shape.STAT,
    width=4,
    height=4,
    states=FEDERATION_PHASES,
)
REMAINING = Panel(
    "Time left",
    "Until the last round is committed, at the pace of the newest five; testing and exporting come on top.",
    "s",
    _q(f"last_over_time(segviz_federation_remaining_seconds{{{F}}}[5m])", _FEDERATION),
    "round-overdue",
    Shape.STAT,
    width=4,
    height=4,
)
DICE = Panel(
    "Validation Dice, mean",
    "Mean over organs, of the newest round that every active site has scored.",
    "percentunit",
    _q(f"segviz_federation_dice_ratio{{{F}}}", _FEDERATION),
    "dice-fell",
    Shape.STAT,
    width=4,
    height=4,
)
SITE_STATES = Panel(
    "What each site does",
    "The phase of each site. Silent and Restarting mean that nobody trains there.",
    "none",
    _q(_coded("segviz_site_phase", S, SITE_PHASES, "federation_namespace, federation, site")),
    "site-silent",
    Shape.STATES,
    width=24,
    states=SITE_PHASES,
)
ORGAN_DICE = Panel(
    "Validation Dice by organ",
    "Each organ's Dice on its sites' validation cases, as rounds are scored. It should rise, then level off.",
    "percentunit",
    _q(f"segviz_federation_organ_dice_ratio{{{F}}}", "{{organ}}"),
    "dice-fell",
)
LOSS = Panel(
    "Training loss by site",
    "Mean loss of the last local epoch of each site's newest update.",
    "none",
    _q(f"segviz_site_update_loss{{{S}}}"),
    "dice-fell",
)
STAGES = Panel(
    "Where a round's time goes",
    "Stages of the newest committed round, mean over its sites: enter (load and score the model), train, upload, "
    "wait for other sites, merge. Together they are the round's duration.",
    "s",
    _q(f"segviz_round_stage_seconds{{{F}}}", "{{stage}}"),
    "round-overdue",
    Shape.BARS,
)
LATE = Panel(
    "Who is awaited",
    "1 while the open round lacks the site's update. Whoever stays longest is the slow one.",
    "none",
    _q(f"1 - segviz_site_delivered{{{S}}}"),
    "round-overdue",
)
MAIN = (ORGAN_DICE, LOSS, STAGES, LATE)
"""What the page without Grafana draws, where it is given a Prometheus."""

FEDERATION = (
    Row("Now", (PROGRESS, ROUND, PHASE, REMAINING, DICE, SITE_STATES)),
    Row(
        "Learning",
        (
            ORGAN_DICE,
            Panel(
                "Validation Dice by organ and round",
                "Every round that was scored in the time shown.",
                "percentunit",
                _q(
                    f"max by (organ, round) (last_over_time(segviz_federation_round_dice_ratio{{{F}}}[$__range]))",
                    "{{organ}} {{round}}",
                ),
                "dice-fell",
                Shape.TABLE,
            ),
            LOSS,
            Panel(
                "Validation Dice by site",
                "Each site's score of the newest global model, with its own heads.",
                "percentunit",
                _q(f"segviz_site_dice_ratio{{{S}}}", "{{site}} {{organ}}"),
                "dice-fell",
            ),
            Panel(
                "Final model on held-back and external cases",
                "Dice of the final model, by set, variant and organ. It is there once sites have tested.",
                "percentunit",
                _q(
                    f"max by (site, set, variant, organ) (last_over_time(segviz_evaluation_dice_ratio{{{S}}}[$__range]))",
                    "{{site}} {{variant}} {{organ}}",
                ),
                "evaluation-failed",
                Shape.TABLE,
                width=24,
            ),
        ),
    ),
    Row(
        "Time",
        (
            STAGES,
            LATE,
            Panel(
                "Stages by site",
                "The newest committed round of each site. A long wait is somebody else's long train or upload.",
                "s",
                _q(f"segviz_site_stage_seconds{{{S}}}", "{{site}} {{stage}}"),
                "round-overdue",
            ),
            Panel(
                "Work done for the open round",
                "Share of the site's work (epochs, or cases while it prepares or scores).",
                "percentunit",
                _q(f"last_over_time(segviz_site_progress_ratio{{{S}}}[5m])"),
                "round-overdue",
            ),
            Panel(
                "Since the last heartbeat",
                "Sites say something every two seconds while they train; a large case may take minutes on a CPU.",
                "s",
                _q(f"time() - segviz_site_heartbeat_timestamp_seconds{{{S}}}"),
                "site-silent",
            ),
            Panel(
                "Round duration, half of the rounds",
                "Median over all committed rounds, from buckets of minutes to days.",
                "s",
                _q(
                    "histogram_quantile(0.5, sum by (federation_namespace, federation, le) "
                    f"(segviz_round_duration_seconds_bucket{{{F}}}))",
                    _FEDERATION,
                ),
                "round-overdue",
            ),
        ),
    ),
    Row(
        "Machines",
        (
            Panel(
                "Samples per second",
                "Patches trained on, by site.",
                "ops",
                _q(
                    f"sum by (site) (rate(segviz_trainer_samples_total{{{S}}}[$__rate_interval]))",
                ),
                "round-overdue",
            ),
            Panel(
                "Waiting for data",
                "Share of the training steps' time in which no batch was there. More CPUs or a faster disk help.",
                "percentunit",
                _q(
                    f"sum by (site) (rate(segviz_trainer_data_wait_seconds_total{{{S}}}[$__rate_interval])) / "
                    f"sum by (site) (rate(segviz_trainer_step_seconds_total{{{S}}}[$__rate_interval]))",
                ),
                "round-overdue",
            ),
            Panel(
                "GPU utilisation",
                "Share of time in which the GPU computed. Low with much waiting for data: the data are slow.",
                "percentunit",
                _q(f"segviz_trainer_gpu_utilization_ratio{{{S}}}", "{{site}} {{gpu}}"),
                "round-overdue",
                marker=Marker.GPU_ONLY,
            ),
            Panel(
                "GPU memory in use",
                "Of the GPU that the site's trainer sees, other processes on it included.",
                "bytes",
                _q(f"segviz_trainer_gpu_memory_used_bytes{{{S}}}", "{{site}} {{gpu}}"),
                "round-overdue",
                marker=Marker.GPU_ONLY,
            ),
            Panel(
                "Bytes up and down",
                "Updates that a site has delivered, and global models that it has loaded, since the start.",
                "bytes",
                (
                    Query(f"segviz_site_uploaded_bytes_total{{{S}}}", "{{site}} up"),
                    Query(f"segviz_site_downloaded_bytes_total{{{S}}}", "{{site}} down"),
                ),
                "store-failing",
            ),
            Panel(
                "Speed of merging",
                "Bytes of updates per second of the last merge.",
                "Bps",
                _q(f"segviz_aggregator_merge_bytes_per_second{{{F}}}", _FEDERATION),
                "round-overdue",
            ),
        ),
    ),
    Row(
        "Trouble",
        (
            Panel(
                "Participation",
                "Training sites by state: all, active, delivered for the open round, silent; and the quorum.",
                "none",
                (
                    Query(f"segviz_federation_sites{{{F}}}", "{{state}}"),
                    Query(f"segviz_federation_quorum_sites{{{F}}}", "quorum"),
                ),
                "quorum-lost",
            ),
            Panel(
                "Quarantined updates",
                "Updates that the aggregator refused, by reason. None is merged.",
                "none",
                _q(f'segviz_site_rejections_total{{{S},reason!=""}}', "{{site}} {{reason}}"),
                "update-quarantined",
                marker=Marker.FAILURE_ONLY,
            ),
            Panel(
                "Rounds missed",
                "Closed rounds that a site is not part of, by reason.",
                "none",
                _q(f'segviz_site_exclusions_total{{{S},reason!=""}}', "{{site}} {{reason}}"),
                "round-overdue",
                marker=Marker.FAILURE_ONLY,
            ),
            Panel(
                "Failures in a row",
                "Of what runs now or ran last, without progress between them. Six and it is given up.",
                "none",
                _q(f"segviz_workload_failures{{{F}}}", "{{role}} {{site}}"),
                "evaluation-failed",
            ),
            Panel(
                "Credentials last for",
                "Until the store credentials that a Pod has expire. They are renewed half-way.",
                "s",
                _q(f"segviz_credentials_expiration_timestamp_seconds{{{F}}} - time()"),
                "credentials-expire",
                marker=Marker.CLUSTER_ONLY,
            ),
        ),
    ),
)

_NS = 'federation_namespace=~"$namespace"'
FLEET = (
    Row(
        "Federations",
        (
            Panel(
                "Federations by phase",
                "How many are in each phase.",
                "none",
                _q(f"count by (phase) (segviz_federation_phase{{{_NS}}})", "{{phase}}"),
                "federation-failed",
                Shape.STAT,
                width=8,
                height=5,
            ),
            Panel(
                "Sites by phase",
                "How many sites are in each phase, over all federations.",
                "none",
                _q(f"count by (phase) (segviz_site_phase{{{_NS}}})", "{{phase}}"),
                "site-silent",
                Shape.STAT,
                width=8,
                height=5,
            ),
            Panel(
                "GPUs in use",
                "GPUs that trainers see now.",
                "none",
                _q(f"count(segviz_trainer_gpu_utilization_ratio{{{_NS}}})", "GPUs"),
                "round-overdue",
                Shape.STAT,
                width=4,
                height=5,
                marker=Marker.GPU_ONLY,
            ),
            Panel(
                "Patches per second",
                "Of all trainers together.",
                "ops",
                _q(f"sum(rate(segviz_trainer_samples_total{{{_NS}}}[$__rate_interval]))", "patches"),
                "round-overdue",
                Shape.STAT,
                width=4,
                height=5,
            ),
            Panel(
                "Progress of each",
                "Share of all rounds that is done.",
                "percentunit",
                _q(f"segviz_federation_progress_ratio{{{_NS}}}", _FEDERATION),
                "round-overdue",
                Shape.GAUGE,
            ),
            Panel(
                "Validation Dice of each",
                "Mean over organs, of the newest scored round.",
                "percentunit",
                _q(f"segviz_federation_dice_ratio{{{_NS}}}", _FEDERATION),
                "dice-fell",
                Shape.GAUGE,
            ),
            Panel(
                "Longest of the newest five rounds",
                "By federation; a long one has a slow site.",
                "s",
                _q(f"segviz_round_longest_seconds{{{_NS}}}", _FEDERATION),
                "round-overdue",
            ),
            Panel(
                "Sites that train, by federation",
                "Active sites: not left out, not gone.",
                "none",
                _q(f'segviz_federation_sites{{{_NS},state="active"}}', _FEDERATION),
                "quorum-lost",
            ),
        ),
    ),
    Row(
        "Failures",
        (
            Panel(
                "Federations that cannot go on",
                "With the reason; each waits for a person.",
                "none",
                _q(f"segviz_federation_failure{{{_NS}}}", f"{_FEDERATION} {{{{reason}}}}"),
                "federation-failed",
                Shape.TABLE,
                marker=Marker.FAILURE_ONLY,
            ),
            Panel(
                "Quarantined updates",
                "By federation, since it began.",
                "none",
                _q(
                    "sum by (federation_namespace, federation, reason) "
                    f'(segviz_site_rejections_total{{{_NS},reason!=""}})',
                    f"{_FEDERATION} {{{{reason}}}}",
                ),
                "update-quarantined",
                Shape.TABLE,
                marker=Marker.FAILURE_ONLY,
            ),
        ),
    ),
    Row(
        "Operator and store",
        (
            Panel(
                "Since each federation was looked at",
                "A growing age means that the operator is stuck, or that the store does not answer it.",
                "s",
                _q(f"time() - segviz_federation_observed_timestamp_seconds{{{_NS}}}", _FEDERATION),
                "operator-down",
            ),
            Panel(
                "Reconciles per second, and errors",
                "How often the operator looks at a federation, and how often that fails.",
                "ops",
                (
                    Query(
                        "sum(rate(segviz_operator_reconcile_duration_seconds_count[$__rate_interval]))",
                        "reconciles",
                    ),
                    Query(
                        "sum by (error) (rate(segviz_operator_reconcile_errors_total[$__rate_interval]))",
                        "{{error}}",
                    ),
                ),
                "operator-down",
            ),
            Panel(
                "Reconcile duration, 95 %",
                "Of 100 looks at a federation, 95 were quicker.",
                "s",
                _q(
                    "histogram_quantile(0.95, sum by (le) "
                    "(rate(segviz_operator_reconcile_duration_seconds_bucket[$__rate_interval])))",
                    "95 %",
                ),
                "operator-down",
            ),
            Panel(
                "Store latency, 95 %",
                "By operation, as operator, aggregators and trainers see it. An upload is as long as its blob.",
                "s",
                _q(
                    "histogram_quantile(0.95, sum by (operation, le) "
                    "(rate(segviz_store_request_duration_seconds_bucket[$__rate_interval])))",
                    "{{operation}}",
                ),
                "store-failing",
            ),
            Panel(
                "Store errors per second",
                "Requests that failed, each attempt counted; processes wait and try again.",
                "ops",
                _q(
                    "sum by (operation, error) (rate(segviz_store_request_errors_total[$__rate_interval]))",
                    "{{operation}} {{error}}",
                ),
                "store-failing",
            ),
            Panel(
                "Traffic with the store",
                "Of operator, aggregators and trainers together.",
                "Bps",
                (
                    Query("sum(rate(segviz_store_sent_bytes_total[$__rate_interval]))", "sent"),
                    Query("sum(rate(segviz_store_received_bytes_total[$__rate_interval]))", "received"),
                ),
                "store-failing",
            ),
            Panel(
                "Federations watched",
                "By operator. None: it is down, or nobody scrapes it.",
                "none",
                _q("segviz_operator_federations", "{{instance}}"),
                "operator-down",
                Shape.STAT,
                width=6,
            ),
            Panel(
                "Shortest-lived credentials",
                "Until the first Pod's store credentials expire, by federation.",
                "s",
                _q(
                    "min by (federation_namespace, federation) "
                    f"(segviz_credentials_expiration_timestamp_seconds{{{_NS}}}) - time()",
                    _FEDERATION,
                ),
                "credentials-expire",
                width=18,
                marker=Marker.CLUSTER_ONLY,
            ),
        ),
    ),
)

DASHBOARDS = {"federation": FEDERATION, "fleet": FLEET}


def panels(rows: tuple[Row, ...]) -> tuple[Panel, ...]:
    return tuple(panel for row in rows for panel in row.panels)
