"""`segviz init`: round 0 from a model that is there already, written with the coordinator's credentials."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.choices import Start
from segviz_exchange.contract.codec import Array, InvalidTensors
from segviz_exchange.contract.ledger import commit, newest_control, newest_round
from segviz_exchange.contract.numbers import fault_of
from segviz_exchange.contract.records import Control, Round
from segviz_exchange.contract.sharing import (
    COUNTER,
    GROUPS,
    NORM,
    PARAMETER,
    REPRESENTATION,
    SHARED_HEAD,
    TensorGroup,
    encode_groups,
)
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.signed import SignedStore
from segviz_exchange.stores.signing import split
from segviz_exchange.stores.store import Store
from segviz_trainer.models.exported import ORGANS, RECORD, WEIGHTS, mean
from segviz_trainer.models.trained import check_digest
from segviz_trainer.network import segnet as network
from segviz_trainer.network.tensors import load, to_arrays, to_tensors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Started:
    """What has become of the federation's tensors."""

    record: Round
    taken: tuple[str, ...]
    seeded: tuple[str, ...]
    """Parameters of heads that the model does not have; they keep their seed."""


def start_from(store: Store, model: Path) -> Started:
    """Commit round 0 with `model`'s weights: an exported folder, or its `model.safetensors`.

    Its representation must be this federation's, tensor by tensor. Heads of organs that both have are taken,
    the others are seeded, as without it. Where it has BatchNorm for each organ (FedBN), their mean is taken.

    Raises:
        Refusal: the federation does not ask for it, has begun, or the model does not fit.
    """
    control = newest_control(store)
    if control is None:
        raise Refusal("no federation has started here. Start it first; it then waits for its initial model.")
    if control.spec.model.start is not Start.PRETRAINED:
        raise Refusal(
            "spec.model.start is Seeded: the sites make the initial model themselves. "
            "Set it to Pretrained in a new federation."
        )
    if not isinstance(store, SignedStore) and _is_signed(store, control):
        raise Refusal(
            "the records of this federation are signed, and nobody would start from a model that is not. "
            "Add --keys WORKDIR/keys/coordinator, from the folder of its `segviz run`."
        )
    if newest_round(store) is not None:
        raise Refusal("round 0 already exists. Start a new federation for another initial model.")
    path = model / WEIGHTS if model.is_dir() else model
    given = _read(path)
    net = network.build(control.spec, control.organs)
    groups = network.groups_of(net)
    state = to_arrays(net.state_dict())
    if _organs(path) != control.organs:
        # A channel of the one head for all organs means nothing where the organs are others.
        groups_taken = {name: group for name, group in groups.items() if group.block != SHARED_HEAD}
    else:
        groups_taken = groups
    taken = _fitting(path, _plain(given), state, groups_taken)
    load(net, to_tensors(taken))
    record = _commit(store, control, to_arrays(net.state_dict()), groups)
    seeded = sorted(name for name, group in groups.items() if name not in taken and group.kind == PARAMETER)
    return Started(record, tuple(sorted(taken)), tuple(seeded))


def _is_signed(store: Store, control: Control) -> bool:
    return split(store.get(keys.control(control.number)))[1] is not None


def _read(path: Path) -> dict[str, Array]:
    try:
        tensors = codec.open_tensors(path).read_all()
    except OSError as error:
        raise Refusal(
            f"{path}: cannot be read ({error.strerror}). Name an exported model's folder, or its {WEIGHTS}."
        ) from error
    except InvalidTensors as error:
        raise Refusal(f"{error}. Name an exported model's folder, or its {WEIGHTS}.") from error
    _check_digest(path)
    for name, value in tensors.items():
        if fault := fault_of(name, [value]):
            raise Refusal(
                f"{path}: {fault}. Every site would start from it; train or export the model again."
            )
    return tensors


def _check_digest(path: Path) -> None:
    """Where a model.json is beside it, the file must be the one of that record."""
    try:
        described = msgspec.json.decode(path.with_name(RECORD).read_bytes(), type=_Description)
    except (OSError, msgspec.DecodeError):
        return
    if described.blob and path.name == WEIGHTS:
        check_digest(path, described.blob)


class _Description(msgspec.Struct, rename="camel"):
    """The part of an exported `model.json` that is read."""

    all_organs: tuple[str, ...] = ()
    blob: str = ""


def _organs(path: Path) -> tuple[str, ...]:
    """The organs of the model, in their order; none where nothing beside it says so."""
    try:
        return msgspec.json.decode(path.with_name(RECORD).read_bytes(), type=_Description).all_organs
    except (OSError, msgspec.DecodeError):
        return ()


def _plain(given: Mapping[str, Array]) -> dict[str, Array]:
    """Tensors by the network's names; what there is one of for each organ is averaged over the organs."""
    common = {name: value for name, value in given.items() if not name.startswith(ORGANS)}
    sets: dict[str, dict[str, Array]] = {}
    for key in sorted(given.keys() - common.keys()):
        organ, name = key.removeprefix(ORGANS).split("/", 1)
        sets.setdefault(organ, {})[name] = given[key]
    names = sorted({name for each in sets.values() for name in each} - common.keys())
    averaged = {
        name: mean([{name: each[name]} for each in sets.values() if name in each])[name] for name in names
    }
    return common | averaged


def _fitting(
    path: Path,
    given: Mapping[str, Array],
    state: Mapping[str, Array],
    groups: Mapping[str, TensorGroup],
) -> dict[str, Array]:
    """What both have, alike. Raises Refusal where the representation differs."""
    taken = {}
    for name, group in sorted(groups.items()):
        if group.kind == COUNTER:
            continue
        value = given.get(name)
        fits = value is not None and value.shape == state[name].shape and value.dtype == state[name].dtype
        if value is not None and fits:
            taken[name] = value
        elif group.block == REPRESENTATION and not (value is None and group.kind == NORM):
            what = "lacks" if value is None else f"has {value.dtype} {list(value.shape)} as"
            raise Refusal(
                f"{path}: {what} {name}, which is {state[name].dtype} {list(state[name].shape)} in this "
                "federation. Give spec.model the channels, strides, residualUnits, norm, headLevels, preset "
                "and encoderBlocks that the model was trained with."
            )
    return taken


def _commit(
    store: Store, control: Control, tensors: Mapping[str, Array], groups: Mapping[str, TensorGroup]
) -> Round:
    """The blob first. No site is a participant of a round 0 that none has made."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "initial")
        digest = codec.save(path, tensors, {GROUPS: encode_groups(groups)})
        store.upload(keys.global_blob(digest), path)
        record = Round(0, control.number, digest, path.stat().st_size, ())
    return commit(store, keys.round_record(0), record)


def find_prefix(store: Store) -> str:
    """The one federation of a store. Raises Refusal where there are several, or none."""
    first = keys.control(1)
    found = [entry.key.removesuffix(first) for entry in store.list("") if entry.key.endswith(f"/{first}")]
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refusal("no federation has started in this store. Start it first, or name another --store.")
    raise Refusal(f"{len(found)} federations are in this store. Choose one: --prefix {found[0]}, …")
