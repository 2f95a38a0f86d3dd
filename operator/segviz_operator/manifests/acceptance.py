"""What no schema can see: whether a federation and the sites it names fit each other."""

from collections.abc import Callable, Iterable, Iterator

from segviz_exchange.contract.choices import AlgorithmName, Release, Role, Selection
from segviz_exchange.contract.spec import FederationSpec
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.manifests.case import Case, Entry
from segviz_operator.manifests.consenting import not_consented
from segviz_operator.manifests.manifest import Federation, Site
from segviz_operator.manifests.organs import component_of_nothing, side_mirrored
from segviz_operator.manifests.past import Past
from segviz_operator.manifests.problem import InvalidManifest, Problem, nearest

ALIAS_TAKEN = "AliasTaken"
"""A training and an external site have the same alias."""
SITE_NOT_FOUND = "SiteNotFound"
"""A siteRef refers to a SegVizSite that does not exist."""
WRONG_ROLE = "WrongRole"
"""An evaluation site is asked to train, or a training site to be external."""
SITE_REPEATED = "SiteRepeated"
"""One SegVizSite takes part under two aliases."""
NO_OWNER = "NoOwner"
"""An organ is to be evaluated that no training site annotates."""
TOO_FEW_SITES = "TooFewSites"
"""minSites is more than there are sites."""
RELEASE_CONFLICT = "ReleaseConflict"
"""A site's release forbids what the federation would do with its head or its BatchNorm."""
NO_VALIDATION = "NoValidation"
"""The best round is to be chosen, but a site has no cases to choose it by."""
SITE_CHANGED = "SiteChanged"
"""An alias stands for other data than those that have gone into the federation."""
ORGAN_TOO_LATE = "OrganTooLate"
"""A site brings an organ to the one head of all organs, which was built without it."""
NO_SITE_STAYS = "NoSiteStays"
"""An edit removes every site that could finish the open round, before which nobody can join."""
POOLED_DATA_REQUIRED = "PooledDataRequired"
"""Central or CentralMarginal, but not at one site that lists several data sets."""
WINDOW_NOT_ALLOWED = "WindowNotAllowed"
"""A data set has a window of its own, but the federation scales all images alike."""


def accept(
    federation: Federation,
    sites: Iterable[Site],
    past: Past | None = None,
    absent: frozenset[str] = frozenset(),
) -> Accepted:
    """Raises InvalidManifest with all that does not fit each other, or the past.

    Args:
        absent: aliases of sites that take no part for now; the others are judged without them.
    """
    case = Case(federation, {site.key: site for site in sites}, past, absent)
    if problems := tuple(problem for check in CHECKS for problem in check(case)):
        raise InvalidManifest(problems)
    # An owner's no holds whatever follows from it for the others, who are judged as if the site were there.
    gone = {entry.member.alias for entry in case.entries if case.has_withdrawn(entry)}
    withdrawn = tuple(sorted(gone | absent))
    return Accepted(federation, _by_alias(case.members), _by_alias(case.evaluators)).without(withdrawn)


def alias_taken(case: Case) -> Iterator[Problem]:
    taken = {entry.member.alias: entry.path for entry in case.members}
    for entry in case.evaluators:
        alias = entry.member.alias
        if alias in taken:
            what = f"is already used by {taken[alias]}"
            fix = "Give each site its own alias."
            yield case.problem(ALIAS_TAKEN, f"{entry.path}.alias", what, fix, alias)


def site_not_found(case: Case) -> Iterator[Problem]:
    for entry in case.entries:
        if entry.site is None and entry.member.alias not in case.absent:
            guess = nearest(entry.key, case.sites)
            fix = f"Did you mean {guess}?" if guess else "Add the site's manifest, or correct the reference."
            what = "refers to a SegVizSite that does not exist"
            yield case.problem(SITE_NOT_FOUND, f"{entry.path}.siteRef", what, fix, entry.key)


def wrong_role(case: Case) -> Iterator[Problem]:
    for entries, role, other in (
        (case.members, Role.TRAINING, "spec.evaluation.sites"),
        (case.evaluators, Role.EVALUATION, "spec.sites"),
    ):
        for entry in entries:
            if entry.site and entry.site.spec.role is not role:
                what = f"has the role {entry.site.spec.role}, not {role}"
                fix = f"Move it to {other}, or have its owner change spec.role."
                yield case.problem(WRONG_ROLE, f"{entry.path}.siteRef", what, fix, entry.key)


def site_repeated(case: Case) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for entry in case.entries:
        if entry.key in first:
            what = f"is already used by {first[entry.key]}"
            yield case.problem(
                SITE_REPEATED, f"{entry.path}.siteRef", what, "Name each site once.", entry.key
            )
        first.setdefault(entry.key, entry.path)


def no_owner(case: Case) -> Iterator[Problem]:
    if not all(entry.site for entry in case.members):
        return  # The missing site may be the owner.
    for entry in case.evaluators:
        for organ in entry.site.spec.organs if entry.site else ():
            if not case.owners(organ):
                what = f"annotates {organ}, which no site in spec.sites annotates"
                fix = f"Add a site that annotates {organ}, or remove it from {entry.site}."
                yield case.problem(NO_OWNER, entry.path, what, fix, entry.member.alias)


def too_few_sites(case: Case) -> Iterator[Problem]:
    least, there = case.federation.spec.participation.min_sites, len(case.members)
    if least is not None and least > there:
        what = f"is more than the {there} in spec.sites"
        yield case.problem(
            TOO_FEW_SITES, "spec.participation.minSites", what, f"Give at most {there}.", least
        )


def head_must_stay(case: Case) -> Iterator[Problem]:
    """A site that releases nothing cannot take part in a head that all sites get in every round."""
    spec = case.federation.spec
    if spec.algorithm.name is AlgorithmName.LOCAL:
        return
    for entry in case.members:
        if entry.site is None or entry.site.spec.release is not Release.NONE:
            continue
        shared = [organ for organ in entry.site.spec.organs if len(case.owners(organ)) > 1]
        if spec.shared_head:
            head, fix = f"the one head of {_head_maker(spec)}", "choose objective PerOrganHead"
        elif shared:
            head, fix = f"the head of {shared[0]}, which other sites annotate too", "remove the other sites"
        else:
            continue
        what = f"has release None, but would share {head}"
        fix = f"Ask its owner for release Heads, or {fix}."
        yield case.problem(RELEASE_CONFLICT, entry.path, what, fix, entry.member.alias)


def evaluation_needs_release(case: Case) -> Iterator[Problem]:
    """An external site runs the heads of the organs it annotates, and what their sites never shared.

    Under FedBN that is BatchNorm (`Adapted` estimates its statistics anew, not its weights); under Local it
    is the whole model.
    """
    spec = case.federation.spec
    evaluated = {organ for entry in case.evaluators if entry.site for organ in entry.site.spec.organs}
    unshared = {AlgorithmName.FED_BN: "its BatchNorm", AlgorithmName.LOCAL: "its whole model"}
    needed = unshared.get(spec.algorithm.name)
    for entry in case.members:
        if entry.site is None or not evaluated.intersection(entry.site.spec.organs):
            continue
        release = entry.site.spec.release
        if release is Release.NONE:
            what = "has release None, but spec.evaluation.sites would run its head"
            fix = "Ask its owner for release Heads or HeadsAndNorm, or leave spec.evaluation.sites empty."
        elif release is Release.HEADS and needed:
            what = f"has release Heads, but under {spec.algorithm.name} an external site needs {needed}"
            fix = "Choose algorithm.name FedAvg, or ask its owner for release HeadsAndNorm."
        else:
            continue
        yield case.problem(RELEASE_CONFLICT, entry.path, what, fix, entry.member.alias)


def no_validation(case: Case) -> Iterator[Problem]:
    if case.federation.spec.selection is not Selection.BEST:
        return
    for entry in case.members:
        if entry.site and entry.site.spec.split.validation == 0:
            what = "has no validation cases, but selection Best chooses the round by them"
            fix = "Choose selection Last, or ask its owner for a split with validation."
            yield case.problem(NO_VALIDATION, entry.path, what, fix, entry.member.alias)


def site_changed(case: Case) -> Iterator[Problem]:
    """What was learnt from a site's data stays in the model, so its alias must go on meaning these data."""
    for entry in case.entries:
        alias, site = entry.member.alias, entry.site
        known = case.past.bound_site(alias) if case.past else None
        if known is None or site is None or case.has_withdrawn(entry):
            continue
        if site.key != known.key:
            what, fix = f"stood for {known.key} until now", "Give another site an alias of its own."
            yield case.problem(SITE_CHANGED, f"{entry.path}.siteRef", what, fix, site.key)
        else:
            for field in known.changed(site.spec):
                what = f"cannot change: the site's data are part of {case.federation.key} already, as {alias}"
                fix = "Set it back, or start a new federation."
                yield Problem(str(site), f"spec.{field}", what, fix, reason=SITE_CHANGED)


def organ_too_late(case: Case) -> Iterator[Problem]:
    organs = case.past.organs if case.past else frozenset()
    spec = case.federation.spec
    if not organs or not spec.shared_head:
        return
    for entry in case.members:
        late = sorted(set(entry.site.spec.organs) - organs) if entry.site else []
        if late and not case.has_withdrawn(entry):
            what = (
                f"annotates {late[0]}, which no site annotated when the federation began: the one head of "
                f"{_head_maker(spec)} has no channel for it"
            )
            fix = f"Start a new federation that has {late[0]} from the beginning."
            yield case.problem(ORGAN_TOO_LATE, entry.path, what, fix, entry.member.alias)


def no_site_stays(case: Case) -> Iterator[Problem]:
    """New sites begin with the next round, so somebody must be left who can finish the open one.

    An owner's no is not the coordinator's edit: it holds even where nobody is left.
    """
    carriers = case.past.carriers if case.past else frozenset()
    named = {entry.member.alias for entry in case.members}
    staying = {
        entry.member.alias
        for entry in case.members
        if entry.member.alias not in case.absent and not case.has_withdrawn(entry)
    }
    leaving = sorted(carriers - named)
    if leaving and not carriers & staying:
        what = (
            f"removes every site that is training ({', '.join(leaving)}): new sites join after the open "
            "round, and no site would be left to finish it"
        )
        fix = "Keep at least one of them until a new site has delivered an update, then remove it."
        yield case.problem(NO_SITE_STAYS, "spec.sites", what, fix)


def pooled_data_required(case: Case) -> Iterator[Problem]:
    """Central is what federations are compared with: all data in one place, each set with its organs."""
    name = case.federation.spec.algorithm.name
    if not name.is_central:
        return
    fix = "Make one SegVizSite that lists all data sets, or choose a federated algorithm."
    if len(case.members) != 1:
        what = f"lists {len(case.members)} sites, but {name} trains at one site that holds all data"
        yield case.problem(POOLED_DATA_REQUIRED, "spec.sites", what, fix)
        return
    (entry,) = case.members
    if entry.site and len(entry.site.spec.data_sets) < 2:
        what = f"lists one data set, but {name} pools several, each with its own organs"
        yield case.problem(POOLED_DATA_REQUIRED, f"{entry.path}.siteRef", what, fix, entry.key)


def window_not_allowed(case: Case) -> Iterator[Problem]:
    """A window that is silently left out would train on other contrasts than the site believes."""
    if case.federation.spec.preprocessing.intensity.site_windows:
        return
    for entry in case.entries:
        for data_set in entry.site.spec.data_sets if entry.site else ():
            if data_set.window is not None:
                what = f"sets a window for its data set {data_set.name}, but all sites are to use one"
                fix = "Set spec.preprocessing.intensity.siteWindows to true, or ask its owner to remove it."
                yield case.problem(WINDOW_NOT_ALLOWED, entry.path, what, fix, entry.member.alias)


CHECKS: tuple[Callable[[Case], Iterator[Problem]], ...] = (
    alias_taken,
    site_not_found,
    wrong_role,
    not_consented,
    site_repeated,
    no_owner,
    too_few_sites,
    head_must_stay,
    evaluation_needs_release,
    no_validation,
    site_changed,
    organ_too_late,
    no_site_stays,
    pooled_data_required,
    window_not_allowed,
    side_mirrored,
    component_of_nothing,
)


def _head_maker(spec: FederationSpec) -> str:
    name = spec.algorithm.name
    return f"algorithm {name}" if name.is_central else f"objective {spec.objective}"


def _by_alias(entries: tuple[Entry, ...]) -> dict[str, Site]:
    found = ((entry.member.alias, entry.site) for entry in entries)
    return {alias: site for alias, site in sorted(found, key=lambda each: each[0]) if site is not None}
