"""What one federation's dashboard shows."""

from segviz_operator.dashboards.main import (
    DICE,
    LATE,
    LOSS,
    ORGAN_DICE,
    PHASE,
    PROGRESS,
    REMAINING,
    ROUND,
    SITE_STATES,
    STAGES,
)
from segviz_operator.dashboards.panel import (
    FEDERATION_LEGEND,
    F,
    Marker,
    Panel,
    Query,
    Row,
    S,
    Shape,
    query,
)

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
                query(
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
                query(f"segviz_site_dice_ratio{{{S}}}", "{{site}} {{organ}}"),
                "dice-fell",
            ),
            Panel(
                "Final model on held-back and external cases",
                "Dice of the final model, by set, variant and organ. It is there once sites have tested.",
                "percentunit",
                query(
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
                query(f"segviz_site_stage_seconds{{{S}}}", "{{site}} {{stage}}"),
                "round-overdue",
            ),
            Panel(
                "Work done for the open round",
                "Share of the site's work (epochs, or cases while it prepares or scores).",
                "percentunit",
                query(f"last_over_time(segviz_site_progress_ratio{{{S}}}[5m])"),
                "round-overdue",
            ),
            Panel(
                "Since the last heartbeat",
                "Sites say something every two seconds while they train; a large case may take minutes on a CPU.",
                "s",
                query(f"time() - segviz_site_heartbeat_timestamp_seconds{{{S}}}"),
                "site-silent",
            ),
            Panel(
                "Round duration, half of the rounds",
                "Median over all committed rounds, from buckets of minutes to days.",
                "s",
                query(
                    "histogram_quantile(0.5, sum by (federation_namespace, federation, le) "
                    f"(segviz_round_duration_seconds_bucket{{{F}}}))",
                    FEDERATION_LEGEND,
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
                query(
                    f"sum by (site) (rate(segviz_trainer_samples_total{{{S}}}[$__rate_interval]))",
                ),
                "round-overdue",
            ),
            Panel(
                "Waiting for data",
                "Share of the training steps' time in which no batch was there. More CPUs or a faster disk help.",
                "percentunit",
                query(
                    f"sum by (site) (rate(segviz_trainer_data_wait_seconds_total{{{S}}}[$__rate_interval])) / "
                    f"sum by (site) (rate(segviz_trainer_step_seconds_total{{{S}}}[$__rate_interval]))",
                ),
                "round-overdue",
            ),
            Panel(
                "GPU utilisation",
                "Share of time in which the GPU computed. Low with much waiting for data: the data are slow.",
                "percentunit",
                query(f"segviz_trainer_gpu_utilization_ratio{{{S}}}", "{{site}} {{gpu}}"),
                "round-overdue",
                marker=Marker.GPU_ONLY,
            ),
            Panel(
                "GPU memory in use",
                "Of the GPU that the site's trainer sees, other processes on it included.",
                "bytes",
                query(f"segviz_trainer_gpu_memory_used_bytes{{{S}}}", "{{site}} {{gpu}}"),
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
                query(f"segviz_aggregator_merge_bytes_per_second{{{F}}}", FEDERATION_LEGEND),
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
                query(f'segviz_site_rejections_total{{{S},reason!=""}}', "{{site}} {{reason}}"),
                "update-quarantined",
                marker=Marker.FAILURE_ONLY,
            ),
            Panel(
                "Rounds missed",
                "Closed rounds that a site is not part of, by reason.",
                "none",
                query(f'segviz_site_exclusions_total{{{S},reason!=""}}', "{{site}} {{reason}}"),
                "round-overdue",
                marker=Marker.FAILURE_ONLY,
            ),
            Panel(
                "Failures in a row",
                "Of what runs now or ran last, without progress between them. Six and it is given up.",
                "none",
                query(f"segviz_workload_failures{{{F}}}", "{{role}} {{site}}"),
                "evaluation-failed",
            ),
            Panel(
                "Credentials last for",
                "Until the store credentials that a Pod has expire. They are renewed half-way.",
                "s",
                query(f"segviz_credentials_expiration_timestamp_seconds{{{F}}} - time()"),
                "credentials-expire",
                marker=Marker.CLUSTER_ONLY,
            ),
        ),
    ),
)
