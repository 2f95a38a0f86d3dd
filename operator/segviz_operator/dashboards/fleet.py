"""What the dashboard of all federations shows, and of operator and store."""

from segviz_operator.dashboards.panel import FEDERATION_LEGEND, Marker, Panel, Query, Row, Shape, query

_NS = 'federation_namespace=~"$namespace"'
FLEET = (
    Row(
        "Federations",
        (
            Panel(
                "Federations by phase",
                "How many are in each phase.",
                "none",
                query(f"count by (phase) (segviz_federation_phase{{{_NS}}})", "{{phase}}"),
                "federation-failed",
                Shape.STAT,
                width=8,
                height=5,
            ),
            Panel(
                "Sites by phase",
                "How many sites are in each phase, over all federations.",
                "none",
                query(f"count by (phase) (segviz_site_phase{{{_NS}}})", "{{phase}}"),
                "site-silent",
                Shape.STAT,
                width=8,
                height=5,
            ),
            Panel(
                "GPUs in use",
                "GPUs that trainers see now.",
                "none",
                query(f"count(segviz_trainer_gpu_utilization_ratio{{{_NS}}})", "GPUs"),
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
                query(f"sum(rate(segviz_trainer_samples_total{{{_NS}}}[$__rate_interval]))", "patches"),
                "round-overdue",
                Shape.STAT,
                width=4,
                height=5,
            ),
            Panel(
                "Progress of each",
                "Share of all rounds that is done.",
                "percentunit",
                query(f"segviz_federation_progress_ratio{{{_NS}}}", FEDERATION_LEGEND),
                "round-overdue",
                Shape.GAUGE,
            ),
            Panel(
                "Mean Dice of each",
                "Validation Dice, mean over organs, of the best round so far.",
                "percentunit",
                query(f"segviz_federation_dice_ratio{{{_NS}}}", FEDERATION_LEGEND),
                "dice-fell",
                Shape.GAUGE,
            ),
            Panel(
                "Longest of the newest five rounds",
                "By federation; a long one has a slow site.",
                "s",
                query(f"segviz_round_longest_seconds{{{_NS}}}", FEDERATION_LEGEND),
                "round-overdue",
            ),
            Panel(
                "Sites that train, by federation",
                "Active sites: not left out, not gone.",
                "none",
                query(f'segviz_federation_sites{{{_NS},state="active"}}', FEDERATION_LEGEND),
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
                query(f"segviz_federation_failure{{{_NS}}}", f"{FEDERATION_LEGEND} {{{{reason}}}}"),
                "federation-failed",
                Shape.TABLE,
                marker=Marker.FAILURE_ONLY,
            ),
            Panel(
                "Quarantined updates",
                "By federation, since it began.",
                "none",
                query(
                    "sum by (federation_namespace, federation, reason) "
                    f'(segviz_site_rejections_total{{{_NS},reason!=""}})',
                    f"{FEDERATION_LEGEND} {{{{reason}}}}",
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
                query(f"time() - segviz_federation_observed_timestamp_seconds{{{_NS}}}", FEDERATION_LEGEND),
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
                query(
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
                query(
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
                query(
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
                query("segviz_operator_federations", "{{instance}}"),
                "operator-down",
                Shape.STAT,
                width=6,
            ),
            Panel(
                "Shortest-lived credentials",
                "Until the first Pod's store credentials expire, by federation.",
                "s",
                query(
                    "min by (federation_namespace, federation) "
                    f"(segviz_credentials_expiration_timestamp_seconds{{{_NS}}}) - time()",
                    FEDERATION_LEGEND,
                ),
                "credentials-expire",
                width=18,
                marker=Marker.CLUSTER_ONLY,
            ),
        ),
    ),
)
