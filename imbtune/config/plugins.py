"""Parts of one's own: the modules that a space names under `imports`.

    imports: [my_losses]    # my_losses.py beside the space file, else an installed module

Running a module registers its parts, which then are parts like any other. A file goes where its
parts are needed: its source travels to Ray's workers, into the study, and beside trained models.
An installed module has to be installed there.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import linecache
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from imbtune.config.slots import SLOTS, registries
from imbtune.errors import ConfigError
from imbtune.registry import Part, Registry, knobs_of, same_kind
from imbtune.storage import Store, join


@dataclass(frozen=True)
class PluginModule:
    """A module with parts of the user's.

    path: the file as it was found. source: its content; None for an installed module.
    """

    name: str
    path: str = ""
    source: bytes | None = None


_loaded: dict[str, tuple[PluginModule, list[tuple[Registry, str]]]] = {}  # with the parts of each


def load_plugins(names: object, folder: Store) -> tuple[PluginModule, ...]:
    """Find the modules `names` (the content of `imports`), run them, register their parts.

    Raises:
        ConfigError: no list of names, a module that is not there, one that fails.
    """
    modules = tuple(_find(name, folder) for name in _check_names(names))
    register(modules)
    return modules


def register(modules: Iterable[PluginModule]) -> None:
    """Make the parts of `modules` those that hold in this process.

    A module that holds already is not run again. Another source under the same name (an edited
    file, another study's copy) takes the place of the one before, with all its parts.
    """
    changed = False  # a later file may have imported from an earlier one
    for module in modules:
        _adopt(module)
        held = _loaded[module.name][0] if module.name in _loaded else None
        if held and held.source == module.source and not (changed and module.source is not None):
            continue
        _unload(module.name)
        _load(module)
        changed = True


def merge_plugins(
    first: tuple[PluginModule, ...], then: tuple[PluginModule, ...]
) -> tuple[PluginModule, ...]:
    """Both, each name once; ConfigError for two files of one name."""
    known = {module.name: module for module in first}
    for module in then:
        if module.source != known.get(module.name, module).source:
            places = f"{known[module.name].path} and {module.path}"
            raise ConfigError(f"imports: {places} differ under one name: rename one")
    return (*first, *(module for module in then if module.name not in known))


def copy_sources(modules: Iterable[PluginModule], folder: Store) -> None:
    """Write the files among `modules` into `folder`, where `imports` finds them again."""
    for module in modules:
        if module.source is not None:
            folder.write(f"{module.name}.py", module.source)


def describe(modules: Iterable[PluginModule]) -> dict[str, dict[str, str]]:
    """What a study records of each module: a file's SHA-256, an installed package's version."""
    found: dict[str, dict[str, str]] = {}
    for module in modules:
        if module.source is None:
            packages = metadata.packages_distributions().get(module.name.partition(".")[0], [])
            found[module.name] = {"installed": " ".join(map(_with_version, packages)) or "yes"}
        else:
            digest = hashlib.sha256(module.source).hexdigest()
            found[module.name] = {"file": f"{module.name}.py", "sha256": digest}
    return found


def with_imports(nested: dict[str, Any], modules: Iterable[PluginModule]) -> dict[str, Any]:
    """A configuration as its file has it: led by `imports`, where it has any."""
    names = [module.name for module in modules]
    return {"imports": names} | nested if names else nested


def plugin_parts(values: Iterable[object]) -> list[Part]:
    """The registered parts of the user's among setting values, products taken apart."""
    names = {name for value in values for name in str(value).split("+")}
    return [
        registry[name] for _, parts in _loaded.values() for registry, name in parts if name in names
    ]


def _check_names(names: object) -> list[str]:
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"imports: {names!r} is not a list of module names: give [my_losses]")
    for i, name in enumerate(names):
        if name.endswith(".py"):
            mend = Path(name).stem
            raise ConfigError(f"imports: {name!r} is a file: give the module's name, {mend!r}")
        if not all(word.isidentifier() for word in name.split(".")):
            raise ConfigError(
                f"imports: {name!r} is not a module's name: give letters, digits and '_', and "
                "put the file beside the one that names it"
            )
        if name in names[:i]:
            raise ConfigError(f"imports: {name!r} stands there twice: name it once")
    return names


def _find(name: str, folder: Store) -> PluginModule:
    """The file beside, else an installed module."""
    path = join(folder.path, f"{name}.py")
    try:
        source = folder.read(f"{name}.py") if "." not in name else None
    except FileNotFoundError:
        source = None
    except OSError as error:
        raise ConfigError(f"imports: cannot read {path}: {error}") from error
    if source is not None:
        if _hides(name):
            raise ConfigError(f"imports: {path} hides the module '{name}' of Python: rename it")
        return PluginModule(name, path, source)
    try:
        is_there = name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:  # of a parent: `mypackage` of `mypackage.losses`
        if not error.name or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"imports: {name}: {_describe_failure(name, '', error)}") from error
        is_there = False
    except Exception as error:  # find_spec runs the parents
        raise ConfigError(f"imports: {name}: {_describe_failure(name, '', error)}") from error
    if not is_there or (name in _loaded and _loaded[name][0].source is not None):
        raise ConfigError(
            f"imports: neither {path} nor an installed module '{name}': {_mend(name, folder)}"
        )
    return PluginModule(name)


def _mend(name: str, folder: Store) -> str:
    files = [path.stem for path in folder.local.glob("*.py")] if folder.local else []
    near = difflib.get_close_matches(name, files, n=1)
    return f"did you mean '{near[0]}'?" if near else "put the file there, or install it"


def _hides(name: str) -> bool:
    """Whether a file of this name would stand before a module that others import."""
    if name in sys.stdlib_module_names or name == "imbtune":
        return True
    if name in _loaded:
        return False
    spec = importlib.util.find_spec(name)
    installed = [Path(sysconfig.get_path(key)) for key in ("purelib", "platlib")]
    return bool(
        spec and spec.origin and any(Path(spec.origin).is_relative_to(path) for path in installed)
    )


def _adopt(module: PluginModule) -> None:
    """Take note of a module that the user's own program has imported already."""
    present = sys.modules.get(module.name)
    if present is None or module.name in _loaded:
        return
    parts = [
        (registry, entry.name)
        for registry in registries()
        for entry in registry
        if f"{getattr(entry.make, '__module__', '')}.".startswith(f"{module.name}.")
    ]
    path = getattr(present, "__file__", None)
    source = Path(path).read_bytes() if module.source is not None and path else None
    _loaded[module.name] = (replace(module, source=source), parts)


def _unload(name: str) -> None:
    if name in _loaded:
        for registry, part in _loaded.pop(name)[1]:
            registry.remove(part)
        sys.modules.pop(name, None)


def _load(module: PluginModule) -> None:
    """Run the module and note what it registers; where it fails, nothing of it stays."""
    modules = set(sys.modules)
    before = {id(registry): set(registry.names()) for registry in registries()}
    try:
        if module.source is None:
            importlib.import_module(module.name)
        else:
            _run(module.name, module.path, module.source)
        for registry, name in _added(before):
            _check_part(registry, registry[name])
    except (Exception, SystemExit) as error:
        reason = _describe_failure(module.name, module.path, error)
        for registry, name in _added(before):
            registry.remove(name)
        top = module.name.partition(".")[0]
        for name in set(sys.modules) - modules | {module.name}:
            if f"{name}.".startswith(f"{top}."):
                sys.modules.pop(name, None)
        raise ConfigError(reason) from error
    _loaded[module.name] = (module, _added(before))


def _added(before: dict[int, set[str]]) -> list[tuple[Registry, str]]:
    return [
        (registry, name)
        for registry in registries()
        for name in registry.names()
        if name not in before[id(registry)]
    ]


def _run(name: str, path: str, source: bytes) -> None:
    """Run a file's source as the module `name`."""
    code = compile(source, path, "exec", dont_inherit=True)
    # tracebacks show its lines on machines that do not have the file, too
    lines = source.decode(errors="replace").splitlines(keepends=True)
    linecache.cache[path] = (len(source), None, lines, path)
    module: ModuleType = importlib.util.module_from_spec(
        importlib.util.spec_from_loader(name, loader=None, origin=path)  # type: ignore[arg-type]
    )
    module.__file__ = path
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    exec(code, module.__dict__)


def _check_part(registry: Registry, entry: Part) -> None:
    """What built-in parts are tested for, of one of the user's."""
    if registry.resolve(entry.name):
        raise ConfigError(
            f"{registry.slot} '{entry.name}' is there already, under that name: rename yours"
        )
    own = knobs_of(entry.make)
    if registry is not SLOTS["data"]:  # a data set may ask for what all data sets share
        _check_free(registry, entry, own.keys() & registry.shared_knobs, registry.slot)
    for slot in SLOTS.values():
        if registry not in slot.components:
            continue
        _check_free(registry, entry, own.keys() & slot.shared_knobs, slot.slot)
        for other in (part for part in slot.components if part is not registry):
            _check_free(registry, entry, own.keys() & other.knobs(), other.slot)
    for name in own:
        other_parts = (part for part in registry.parts_with(name) if part is not entry)
        for part in other_parts:
            if not same_kind(own[name], part.knobs[name]):
                raise ConfigError(
                    f"the knob '{name}' of {registry.slot} '{entry.name}' has another type or "
                    f"range than that of '{part.name}': give it the same, or another name"
                )


def _check_free(registry: Registry, entry: Part, taken: set[str], slot: str) -> None:
    """ConfigError where the name of a knob is `taken` in a slot whose knobs come with its own."""
    for name in taken:
        raise ConfigError(
            f"the knob '{name}' of {registry.slot} '{entry.name}' is that of a {slot} already: "
            "rename it"
        )


def _describe_failure(name: str, path: str, error: BaseException) -> str:
    """File, line and reason, of the last line of the module's own that ran."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
    top = name.partition(".")[0]
    reason = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError):
        reason += ": install it, or name its file in `imports` before this one"
    where = path or name
    for frame, line in traceback.walk_tb(error.__traceback__):
        module: Any = frame.f_globals.get("__name__")
        if module == name or str(module).startswith(f"{top}."):
            where = f"{frame.f_code.co_filename}, line {line}"
    return f"{where}: {reason}"


def _with_version(package: str) -> str:
    return f"{package} {metadata.version(package)}"
