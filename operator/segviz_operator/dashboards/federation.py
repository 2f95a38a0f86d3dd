"""What one federation's dashboard shows."""

from segviz_operator.dashboards.panel import (
    FEDERATION_LEGEND,
    F,
    Marker,
    Panel,
    Query,
    Row,
    S,
    Shape,
    coded,
    query,
)
from segviz_operator.plan.phase import FederationPhase, SitePhase

FEDERATION_PHASES = tuple(FederationPhase)
SITE_PHASES = tuple(SitePhase)

PROGRESS = Panel(
    "Progress",
    "Share of all rounds that is done, the open round in part.",
    "percentunit",
    query(f"segviz_federation_progress_ratio{{{F}}}", FEDERATION_LEGEND),
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
    query(
        coded("segviz_federation_phase", F, FEDERATION_PHASES, "federation_namespace, federation"),
        FEDERATION_LEGEND,
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
    query(f"last_over_time(segviz_federation_remaining_seconds{{{F}}}[5m])", FEDERATION_LEGEND),
    "round-overdue",
    Shape.STAT,
    width=4,
    height=4,
)
DICE = Panel(
    "Mean Dice of the best round",
    "Validation Dice, mean over organs, of the best round so far.",
    "percentunit",
    query(f"segviz_federation_dice_ratio{{{F}}}", FEDERATION_LEGEND),
    "dice-fell",
    Shape.STAT,
    width=4,
    height=4,
)
SITE_STATES = Panel(
    "What each site does",
    "The phase of each site. Silent and Restarting mean that nobody trains there.",
    "none",
    query(coded("segviz_site_phase", S, SITE_PHASES, "federation_namespace, federation, site")),
    "site-silent",
    Shape.STATES,
    width=24,
    states=SITE_PHASES,
)
ORGAN_DICE = Panel(
    "Validation Dice by organ",
    "Each organ's Dice on its sites' validation cases, as rounds are scored. It should rise, then level off.",
    "percentunit",
    query(f"segviz_federation_organ_dice_ratio{{{F}}}", "{{organ}}"),
    "dice-fell",
)
LOSS = Panel(
    "Training loss by site",
    "Mean loss of the last local epoch of each site's newest update.",
    "none",
    query(f"segviz_site_update_loss{{{S}}}"),
    "dice-fell",
)
STAGES = Panel(
    "Where a round's time goes",
    "Stages of the newest committed round, mean over its sites: enter (load and score the model), train, upload, "
    "wait for other sites, merge. Together they are the round's duration.",
    "s",
    query(f"segviz_round_stage_seconds{{{F}}}", "{{stage}}"),
    "round-overdue",
    Shape.BARS,
)
LATE = Panel(
    "Who is awaited",
    "1 while the site's update for the open round is missing; at the end, its score or its test. Whoever stays longest is the slow one.",
    "none",
    query(f"1 - segviz_site_delivered{{{S}}}"),
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
