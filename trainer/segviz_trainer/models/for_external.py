"""An exported model in the state that predicts one organ of an external set."""

from collections.abc import Sequence

from segviz_exchange.contract.choices import EvaluationNorm
from segviz_exchange.contract.codec import Array
from segviz_exchange.contract.records import Exported
from segviz_exchange.contract.sharing import TensorGroup
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.inference.predictor import Predictor
from segviz_trainer.models.exported import as_evaluated
from segviz_trainer.models.trained import load_organ


def load_for_external(
    predictor: Predictor,
    exported: Exported,
    organ: str,
    tensors: dict[str, Array],
    groups: dict[str, TensorGroup],
    cases: Sequence[PreparedCase],
) -> None:
    """The state for one organ: with its owners' BN, the mean of all owners', or the external images' own."""
    load_organ(predictor.model, organ, as_evaluated(exported, tensors, groups))
    if exported.spec.evaluation.norm is EvaluationNorm.ADAPTED:
        predictor.reestimate_norm(cases)
