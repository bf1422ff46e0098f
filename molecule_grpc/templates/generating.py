"""The files below /configs of a new workspace: a merge of parsed files, never appended text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from molecule_grpc.runtimes import default_model
from molecule_grpc.templates.parsing.documents import Documents
from molecule_grpc.templates.reading.files import Files, TemplateInvalid
from molecule_grpc.templates.start_files import MAX_BYTES

CONFIG: Final = "config.yaml"
DEFAULT_RUNTIME: Final = "langgraph"
MAX_VALUES: Final = 20_000
_VERSION: Final = "1.0.0"
# Runtimes that end a task by themselves; others are told not to.
_WITH_TIMEOUT: Final = frozenset({"langgraph", "deepagents"})
# An older platform's key, which means nothing any more.
_FORGOTTEN: Final = ("shared_context",)
_END: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a workspace says of itself.

    Args:
        runtime, model: empty for what the files say, else for the default.
        settings: further keys of `config.yaml`, over those of files.
    """

    name: str
    role: str
    tier: int
    runtime: str = ""
    model: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What a workspace is created and first started with.

    Args:
        model: empty where neither the workspace nor its files name one.
    """

    runtime: str
    model: str
    files: Files


def configured(wanted: Wanted, layers: list[Files], plugins: Files) -> Configured:
    """The files of a workspace.

    Args:
        layers: files below /configs, the later over the earlier; each may have a `config.yaml`.
        plugins: files of plugins, by path below /configs.

    Raises:
        TemplateInvalid: a `config.yaml` is no mapping of YAML, or the merged one has more than
            20,000 values or 2 MiB of texts.
    """
    base: dict[str, Any] = {}
    files = dict(plugins)
    for layer in layers:
        base = merged(base, read_config(layer))
        files |= layer
    runtime = wanted.runtime or _text(base.get("runtime")) or DEFAULT_RUNTIME
    model = wanted.model or model_of(base)
    files[CONFIG] = _dumped(_config(base, wanted, runtime, model or default_model(runtime)))
    return Configured(runtime=runtime, model=model, files=files)


def read_config(files: Files) -> dict[str, Any]:
    """The `config.yaml` among some files; empty where there is none.

    Raises:
        TemplateInvalid: it is no mapping of YAML.
    """
    if CONFIG not in files:
        return {}
    found = Documents(files, includes=False).load(CONFIG)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise TemplateInvalid(f"{CONFIG} must be a mapping")
    return dict(found)


def model_of(config: Mapping[str, Any]) -> str:
    """The model that a `config.yaml` names, in the form of today or the older one."""
    settings = config.get("runtime_config")
    inner = settings.get("model") if isinstance(settings, Mapping) else None
    return _text(inner) or _text(config.get("model"))


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings as one: the second's values win, and mappings are merged in turn."""
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            result[key] = merged(known, value)
        else:
            result[key] = value
    return result


def _config(base: Mapping[str, Any], wanted: Wanted, runtime: str, model: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": wanted.name,
        "description": wanted.role or _text(base.get("description")),
        "version": _text(base.get("version")) or _VERSION,
        "tier": wanted.tier,
        "runtime": runtime,
        "model": model,
    }
    config |= {key: value for key, value in base.items() if key not in config}
    config |= wanted.settings
    for key in _FORGOTTEN:
        config.pop(key, None)
    inner = base.get("runtime_config")
    settings = dict(inner) if isinstance(inner, Mapping) else {}
    if runtime not in _WITH_TIMEOUT:
        settings.setdefault("timeout", 0)
    if "model" in settings:
        settings["model"] = model
    if settings:
        config["runtime_config"] = settings
    if wanted.plugins:
        config["plugins"] = list(wanted.plugins)
    return config


def _dumped(config: Mapping[str, Any]) -> bytes:
    _require_small(config)
    text: str = yaml.dump(
        _plain(config),
        Dumper=yaml.CSafeDumper,
        allow_unicode=True,
        default_flow_style=False,
        sort_keys=False,
        width=2**20,
    )
    return text.encode()


def _require_small(config: Mapping[str, Any]) -> None:
    """Refuse what would take long to write: every workspace of a template may inherit the same.

    Raises:
        TemplateInvalid: there are more than 20,000 values, or 2 MiB of texts.
    """
    values, characters = 0, 0
    waiting: list[Iterator[Any]] = [iter([config])]
    while waiting:
        value = next(waiting[-1], _END)
        if value is _END:
            waiting.pop()
            continue
        values += 1
        if isinstance(value, Mapping):
            characters += sum(len(str(key)) for key in value)
            waiting.append(iter(value.values()))
        elif isinstance(value, list | tuple):
            waiting.append(iter(value))
        elif isinstance(value, str):
            characters += len(value)
        if values > MAX_VALUES or characters > MAX_BYTES:
            raise TemplateInvalid(f"{CONFIG} would have more than {MAX_VALUES} values, or 2 MiB")


def _plain(value: Any) -> Any:
    """Without classes of ours, and without shared parts, which would be written as aliases."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _text(value: Any) -> str:
    return str(value).strip() if isinstance(value, str | int | float) else ""
