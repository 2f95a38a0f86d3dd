"""Who made a result: written into each, so that a contour in a viewer leads back to the model's file."""

from dataclasses import dataclass
from importlib.metadata import version

from highdicom.content import AlgorithmIdentificationSequence

from segviz_trainer.dicom.codes import artificial_intelligence

NAME = "SegViz"


@dataclass(frozen=True)
class Algorithm:
    """This software and the model that it ran."""

    version: str
    digest: str
    """Of the model's file: `sha256:` and 64 digits."""

    @classmethod
    def of(cls, digest: str) -> "Algorithm":
        return cls(version("segviz-federation"), f"sha256:{digest.removeprefix('sha256:')}")

    @property
    def sentence(self) -> str:
        return f"Predicted by {NAME} {self.version}, model {self.digest}. Not checked by a person."

    def identification(self) -> AlgorithmIdentificationSequence:
        """The macro of PS3.3 10.16."""
        return AlgorithmIdentificationSequence(
            name=NAME,
            family=artificial_intelligence(),
            version=self.version,
            parameters={"model": self.digest},
        )
