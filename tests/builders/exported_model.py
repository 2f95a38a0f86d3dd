"""A small exported model's folder, as `segviz predict` and `segviz init` take it, whole or spoilt."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from builders.rig import algorithm, small_federation
from segviz_exchange.contract import codec
from segviz_exchange.contract.choices import AlgorithmName
from segviz_exchange.contract.codec import Array
from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.records import Exported, Variant
from segviz_exchange.contract.sharing import GROUPS, encode_groups
from segviz_exchange.contract.spec import FederationSpec
from segviz_trainer.network import segnet as network
from segviz_trainer.network.tensors import to_arrays

ORGANS = ("liver", "spleen")
SPEC = small_federation(algorithm=algorithm(AlgorithmName.FED_AVG))


def write_model(
    folder: Path,
    change: Callable[[dict[str, Array]], object] = lambda tensors: None,
    spec: FederationSpec = SPEC,
) -> Path:
    """Untrained; `change` edits its tensors before their digest is taken."""
    net = network.build(spec, ORGANS)
    tensors = {name: np.array(value) for name, value in to_arrays(net.state_dict()).items()}
    change(tensors)
    folder.mkdir(parents=True)
    metadata = {GROUPS: encode_groups(network.groups_of(net))}
    digest = codec.save(folder / "model.safetensors", tensors, metadata)
    record = Exported(Variant.BASE, 3, digest, 1, ORGANS, ORGANS, spec)
    (folder / "model.json").write_bytes(encode(record))
    return folder
