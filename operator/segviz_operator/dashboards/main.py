"""A federation's main panels: the top of its dashboard, and what the page without Grafana draws."""

from segviz_operator.dashboards.panel import (
    FEDERATION_LEGEND,
    F,
    Panel,
    Query,
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
