"""The method card: what was done, in two sentences each."""

from segviz_exchange.contract.choices import AlgorithmName, HeadLoss, Norm, Objective
from segviz_exchange.contract.records import Control
from segviz_exchange.contract.spec import FederationSpec

ALGORITHMS = {
    AlgorithmName.LOCAL: "Each site trains by itself, and nothing is merged. It is the baseline that a "
    "federation has to beat.",
    AlgorithmName.FED_AVG: "After each round the global model is the mean of the sites' models. Each site "
    "goes on from it.",
    AlgorithmName.FED_BN: "The global model is the mean of the sites' models, batch normalisation left out. "
    "Each site keeps its own, which absorbs differences between scanners.",
    AlgorithmName.FED_PROX: "As federated averaging, the global model is the mean of the sites' models. A "
    "term in each site's loss holds it near the global model between two rounds.",
    AlgorithmName.FED_AVG_M: "The mean of the sites' changes is a direction in which the server steps with "
    "momentum. Noisy updates of single rounds weigh less.",
    AlgorithmName.FED_ADAM: "The mean of the sites' changes is a direction in which the server steps with "
    "Adam. Each weight has a step size of its own.",
    AlgorithmName.MEDIAN: "Each weight of the global model is the median of the sites' values. A site that "
    "sends nonsense is outvoted by the others.",
    AlgorithmName.TRIMMED_MEAN: "Each weight of the global model is the mean of the sites' values without "
    "the most extreme ones. How many are left out bounds how many sites may send nonsense.",
    AlgorithmName.CENTRAL: "All images are in one place, and what a case does not annotate counts as "
    "background. It is a lower bound for comparison, not a federation.",
    AlgorithmName.CENTRAL_MARGINAL: "All images are in one place, trained with the marginal loss. It is an "
    "upper bound for comparison, not a federation.",
}

OBJECTIVES = {
    Objective.PER_ORGAN_HEAD: "Each organ has a head of its own, trained by the Dice loss of that organ "
    "alone. No voxel is ever taught as background only because its site did not outline it.",
    Objective.MARGINAL: "One head predicts all organs, trained by Dice loss and cross-entropy. Organs that "
    "a case does not annotate are added to its background.",
    Objective.MARGINAL_EXCLUSION: "One head predicts all organs, trained by the marginal loss. A further "
    "term keeps other organs out of the voxels that a site has outlined.",
    Objective.CONDITIONAL_DISTILLATION: "One head predicts all organs, trained by the marginal loss. What "
    "the global model says of other sites' organs is distilled, so that a site does not forget them.",
    Objective.PSEUDO_LABELS: "One head predicts all organs, trained by the marginal loss. Voxels of which "
    "the global model is confident are labels of other sites' organs beside the site's own.",
}


def objective_of(spec: FederationSpec) -> str:
    """Central algorithms bring their own."""
    if spec.algorithm.name.is_central:
        return "The algorithm brings its own loss, over one head for all organs. No other objective applies."
    told = OBJECTIVES[spec.objective]
    if spec.training.loss is HeadLoss.DICE_CROSS_ENTROPY:
        told = told.replace("the Dice loss of", "the Dice loss and the cross-entropy of")
    return told


def sharing(control: Control) -> str:
    """What left a site in each round."""
    spec = control.spec
    if spec.algorithm.name is AlgorithmName.LOCAL:
        return "Nothing was shared in any round. Only what a site releases at the end can leave it."
    if spec.algorithm.name.is_central:
        return "One site holds all images, so nothing was shared between sites. Its whole model was uploaded."
    norm = spec.algorithm.name is AlgorithmName.FED_BN and spec.model.norm is Norm.BATCH
    kept = ", without what BatchNorm owns" if norm else ""
    if control.shared_head:
        return f"Each round a site uploaded its whole model{kept}. All sites can read the merged one."
    common = [organ for organ in control.organs if len(control.owners(organ)) > 1]
    heads = (
        f"the heads of {', '.join(common)}, which several sites own, were averaged over their owners"
        if common
        else "an organ's head stayed with its one owner until the end"
    )
    return f"Each round a site uploaded the layers that all organs share{kept}. Of the heads, {heads}."
