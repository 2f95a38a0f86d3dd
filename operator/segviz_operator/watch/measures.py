"""The metrics of a federation and of whoever runs it: names, units, labels and what they say.

Of federations nothing is counted here as it happens: every value follows from records and status, so it is
the same after a restart, and it is there although the trainer that it is about has ended.
"""

from segviz_exchange.process.measures import (
    FEDERATION_LABELS,
    MINUTES_TO_DAYS,
    SITE_LABELS,
    counter,
    gauge,
    histogram,
)

_F, _S = FEDERATION_LABELS, SITE_LABELS

# --- a federation -------------------------------------------------------------------------------------

INFO = gauge(
    "segviz_federation_info", "1, labelled with what the manifest asks for.", (*_F, "algorithm", "objective")
)
PHASE = gauge("segviz_federation_phase", "1 for the phase that the federation is in.", (*_F, "phase"))
ROUND = gauge("segviz_federation_round", "Newest committed round; absent before round 0.", _F)
ROUNDS = gauge("segviz_federation_rounds", "Rounds that the manifest asks for.", _F)
BEST_ROUND = gauge(
    "segviz_federation_best_round",
    "Round with the highest mean validation Dice over organs so far; round 0 does not count.",
    _F,
)
FINAL_ROUND = gauge("segviz_federation_final_round", "Round of the final model, once it is chosen.", _F)
PROGRESS = gauge("segviz_federation_progress_ratio", "Share of the rounds done, the open one in part.", _F)
REMAINING = gauge(
    "segviz_federation_remaining_seconds",
    "Estimated time until the last round is committed; absent until one can be made, and at the end.",
    _F,
)
MEAN_DICE = gauge(
    "segviz_federation_dice_ratio",
    "Validation Dice, mean over organs, of the best round so far.",
    _F,
)
NEWEST_DICE = gauge(
    "segviz_federation_newest_dice_ratio",
    "Validation Dice, mean over organs, of the newest round that every active site has scored.",
    _F,
)
ORGAN_DICE = gauge(
    "segviz_federation_organ_dice_ratio",
    "Validation Dice by organ, of the newest round that every active site has scored.",
    (*_F, "organ"),
)
ROUND_DICE = gauge(
    "segviz_federation_round_dice_ratio",
    "Validation Dice by organ and round, of the newest 3 scored rounds; last_over_time has the earlier ones.",
    (*_F, "organ", "round"),
)
DICE_CHANGE = gauge(
    "segviz_federation_organ_dice_change_ratio",
    "Validation Dice of the newest scored round, less that of 3 rounds before it (round 1 at the earliest).",
    (*_F, "organ"),
)
SITES = gauge(
    "segviz_federation_sites",
    "Training sites: all, active (not left out), delivered (see segviz_site_delivered), silent.",
    (*_F, "state"),
)
QUORUM = gauge("segviz_federation_quorum_sites", "Sites that a round needs at its deadline.", _F)
SUSPENDED = gauge("segviz_federation_suspended", "1 while spec.suspend is true, else 0.", _F)
FAILURE = gauge(
    "segviz_federation_failure",
    "1 for each reason why the federation cannot go on as it is.",
    (*_F, "reason"),
)
INVALID = gauge("segviz_federation_invalid_records", "Objects in the sites' places that are no records.", _F)
CONTROL = gauge(
    "segviz_federation_control_number", "Number of the newest control: it grows with every edit.", _F
)
OBSERVED = gauge(
    "segviz_federation_observed_timestamp_seconds", "When records and status were last read.", _F
)
UP_BYTES = counter("segviz_site_uploaded_bytes_total", "Bytes of the updates that a site has delivered.", _S)
DOWN_BYTES = counter(
    "segviz_site_downloaded_bytes_total", "Bytes of the global models that a site has loaded and scored.", _S
)

# --- rounds -------------------------------------------------------------------------------------------

OPENED = gauge(
    "segviz_round_opened_timestamp_seconds", "When the open round was opened: the newest commit.", _F
)
DEADLINE = gauge(
    "segviz_round_deadline_timestamp_seconds",
    "From when on minSites are enough; absent without roundTimeoutSeconds. Pauses are not added.",
    _F,
)
LONGEST = gauge(
    "segviz_round_longest_seconds", "Duration of the longest of the newest 5 committed rounds.", _F
)
ROUND_DURATION = histogram(
    "segviz_round_duration_seconds",
    "Duration of the committed rounds, from commit to commit.",
    _F,
    MINUTES_TO_DAYS,
)
STAGE_DURATION = histogram(
    "segviz_stage_duration_seconds",
    "Duration of the stages of all rounds, over sites: enter (load and score the model), train, upload, wait "
    "(for other sites), merge.",
    (*_F, "stage"),
    (1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 28_800.0, 86_400.0),
)
STAGE = gauge(
    "segviz_round_stage_seconds",
    "Stages of the newest committed round, mean over its participants; together they are its duration.",
    (*_F, "stage"),
)

# --- sites --------------------------------------------------------------------------------------------

SITE_INFO = gauge(
    "segviz_site_info", "1, labelled with the site's part in it (training or evaluation).", (*_S, "role")
)
SITE_PHASE = gauge("segviz_site_phase", "1 for the phase that the site is in.", (*_S, "phase"))
SITE_ROUND = gauge("segviz_site_round", "Round that the site works for; absent while it does not.", _S)
SITE_EPOCH = gauge("segviz_site_epoch", "Local epoch of that round, counted from 1.", _S)
SITE_PROGRESS = gauge(
    "segviz_site_progress_ratio", "Share of the site's work for the open round that is done.", _S
)
SITE_REMAINING = gauge(
    "segviz_site_remaining_seconds", "Estimated time until the site's update is there.", _S
)
HEARTBEAT = gauge(
    "segviz_site_heartbeat_timestamp_seconds",
    "When the site last said something; its age is time() minus this.",
    _S,
)
SITE_LOSS = gauge(
    "segviz_site_loss", "Training loss, mean over the epoch so far, by the newest heartbeat.", _S
)
UPDATE_LOSS = gauge(
    "segviz_site_update_loss", "Mean training loss of the last epoch of the newest update.", _S
)
SITE_SPEED = gauge("segviz_site_samples_per_second", "Patches that the site trains on per second.", _S)
SITE_DICE = gauge(
    "segviz_site_dice_ratio",
    "Validation Dice by organ, of the newest global model that it scored.",
    (*_S, "organ"),
)
SCORED_ROUND = gauge("segviz_site_scored_round", "Round of that model.", _S)
DELIVERED = gauge(
    "segviz_site_delivered",
    "1 if what is needed of the site now is there, else 0: its update for the open round, its score of the "
    "last one, its test of the final model.",
    _S,
)
SITE_STAGE = gauge(
    "segviz_site_stage_seconds",
    "Stages of the newest committed round that the site took part in.",
    (*_S, "stage"),
)
UPDATES = counter("segviz_site_updates_total", "Rounds that a site has delivered an update for.", _S)
PARTICIPATIONS = counter("segviz_site_participations_total", "Closed rounds that a site is part of.", _S)
EXCLUSIONS = counter(
    "segviz_site_exclusions_total", "Closed rounds that a site is not part of, by reason.", (*_S, "reason")
)
REJECTIONS = counter(
    "segviz_site_rejections_total",
    "Updates that were quarantined, by reason; 0 has no reason.",
    (*_S, "reason"),
)
TEST_DICE = gauge(
    "segviz_evaluation_dice_ratio",
    "Dice of the final model on test cases (of a training site) or on an external set, by variant and organ.",
    (*_S, "set", "variant", "organ"),
)

# --- what runs ----------------------------------------------------------------------------------------

AGGREGATOR_PHASE = gauge(
    "segviz_aggregator_phase", "1 for the phase that the aggregator is in.", (*_F, "phase")
)
AGGREGATOR_HEARTBEAT = gauge(
    "segviz_aggregator_heartbeat_timestamp_seconds", "When the aggregator last said something.", _F
)
WORKLOAD_FAILURES = gauge(
    "segviz_workload_failures",
    "Failures in a row without progress of what runs now or ran last; role is aggregator, trainer, export or "
    "evaluation, site is empty for the first and third.",
    (*_S, "role"),
)
WORKLOAD_STUCK = gauge(
    "segviz_workload_stuck",
    "1 for what has long had no Pod (reason PodMissing), or a Pod that does not run (PodStuck).",
    (*_S, "role", "reason"),
)
CREDENTIALS_EXPIRE = gauge(
    "segviz_credentials_expiration_timestamp_seconds",
    "When the store credentials that were last given out expire; site is empty for the aggregator's.",
    _S,
)
CREDENTIALS_LIFETIME = gauge(
    "segviz_credentials_lifetime_seconds",
    "How long store credentials last; at half of that they are renewed. Absent where they do not expire.",
    _F,
)

FEDERATION_MEASURES = (
    *(INFO, PHASE, ROUND, ROUNDS, BEST_ROUND, FINAL_ROUND, PROGRESS, REMAINING, MEAN_DICE, NEWEST_DICE),
    *(ORGAN_DICE, ROUND_DICE, DICE_CHANGE, SITES, QUORUM, SUSPENDED, FAILURE, INVALID, CONTROL, OBSERVED),
    *(OPENED, DEADLINE, LONGEST, ROUND_DURATION, STAGE_DURATION, STAGE),
    *(SITE_INFO, SITE_PHASE, SITE_ROUND, SITE_EPOCH, SITE_PROGRESS, SITE_REMAINING, HEARTBEAT, SITE_LOSS),
    *(UPDATE_LOSS, SITE_SPEED, SITE_DICE, SCORED_ROUND, DELIVERED, SITE_STAGE, UP_BYTES, DOWN_BYTES),
    *(UPDATES, PARTICIPATIONS, EXCLUSIONS, REJECTIONS, TEST_DICE),
    *(AGGREGATOR_PHASE, AGGREGATOR_HEARTBEAT, WORKLOAD_FAILURES, WORKLOAD_STUCK, CREDENTIALS_EXPIRE),
    CREDENTIALS_LIFETIME,
)

# --- the operator itself ------------------------------------------------------------------------------

FEDERATIONS = gauge("segviz_operator_federations", "Federations that are watched.")
RECONCILE_DURATION = histogram(
    "segviz_operator_reconcile_duration_seconds",
    "How long it took to look at a federation and to do what it needs.",
    (),
    (0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 60.0, 300.0),
)
RECONCILE_ERRORS = counter(
    "segviz_operator_reconcile_errors_total", "Looks that ended with an error and are repeated.", ("error",)
)
BUILD_INFO = gauge("segviz_operator_build_info", "1, labelled with the version of who watches.", ("version",))
WATCHING = gauge(
    "segviz_operator_watching", "1 while the API server serves the CRDs, 0 while the operator waits for them."
)
OPERATOR_MEASURES = (FEDERATIONS, RECONCILE_DURATION, RECONCILE_ERRORS, BUILD_INFO, WATCHING)
