"""Plugins: the user's modules with more parts, which a space lists under `imports`.

    imports: [my_losses]    # my_losses.py in the folder of the space file, or an installed module

Running the module registers its parts, which can then be used like the built-in ones. The source of
a plugin file is sent to Ray's workers, and copied into the study and next to trained models. An
installed module must be installed on each machine.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import linecache
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from imbtune.config.moved_names import with_current_names
from imbtune.config.part_conflicts import check_part
from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugin_record import check_sources
from imbtune.config.slots import registries
from imbtune.config.trust import check_trusted, trust
from imbtune.errors import ConfigError
from imbtune.limits import NAME_BYTES
from imbtune.registry import Part, Registry
from imbtune.storage import Store, join

_loaded: dict[str, tuple[PluginModule, list[tuple[Registry, str]]]] = {}  # module and its parts


def load_plugins(
    names: object, folder: Store, *, trusted: bool = False
) -> tuple[PluginModule, ...]:
    """Find the plugins, run them, and register their parts.

    Args:
        names: the content of `imports`.
        folder: where plugin files are looked for; other modules must be installed.
        trusted: whether they run even if this user has not run them before.

    Raises:
        ConfigError: `names` is not a list of module names, a module is missing, or it fails.
        StudyError: the folder is a study's, and a file in it is not the one that it began with.
        UntrustedError: this user has neither run a module before nor consented.
    """
    checked = _check_names(names)
    if not trusted:  # to find a module of a package is to run the package
        _check_trusted([PluginModule(name) for name in checked if "." in name], folder)
    modules = tuple(_find(name, folder) for name in checked)
    check_sources(modules, folder)
    if not trusted:
        _check_trusted(modules, folder)
    register(modules)
    return modules


def _check_trusted(modules: Iterable[PluginModule], folder: Store) -> None:
    """UntrustedError for a module that has not run in this process, and may not."""
    check_trusted([module for module in modules if not _has_run(module)], folder.path)


def _has_run(module: PluginModule) -> bool:
    """Whether the module has run in this process, for imbtune or for the user's program."""
    if module.name in _loaded:
        return _loaded[module.name][0].source == module.source
    present = sys.modules.get(module.name)
    if present is None or module.source is None:
        return present is not None
    path = getattr(present, "__file__", None)
    return bool(path) and Path(str(path)).read_bytes() == module.source


def register(modules: Iterable[PluginModule]) -> None:
    """Register the parts of `modules` in this process.

    A module that is registered already with the same source is not run again. A different source
    under the same name (an edited file, another study's copy) replaces the earlier one and all its
    parts.

    Raises:
        ConfigError: a module fails, or one of its parts conflicts with another part.
    """
    changed = False  # then run the later files again, since they may import from the changed one
    for module in modules:
        _note_imported(module)
        loaded = _loaded[module.name][0] if module.name in _loaded else None
        unchanged = loaded is not None and loaded.source == module.source
        if unchanged and not (changed and module.source is not None):
            continue
        _unload(module.name)
        _load(module)
        changed = True


def loaded_plugins() -> tuple[PluginModule, ...]:
    """The plugins whose parts are registered in this process, in the order of registration."""
    return tuple(module for module, _ in _loaded.values())


def merge_plugins(
    first: tuple[PluginModule, ...], second: tuple[PluginModule, ...]
) -> tuple[PluginModule, ...]:
    """The plugins of both, each once.

    Raises:
        ConfigError: two files with the same name and different content.
    """
    known = {module.name: module for module in first}
    for module in second:
        if module.source != known.get(module.name, module).source:
            files = f"{known[module.name].path} and {module.path}"
            raise ConfigError(f"imports: {files} have one name, but differ: rename one")
    return (*first, *(module for module in second if module.name not in known))


def copy_sources(modules: Iterable[PluginModule], folder: Store) -> None:
    """Copy the plugin files into `folder`, where `imports` finds them; this user trusts them."""
    modules = tuple(modules)
    trust(modules)
    for module in modules:
        if module.source is not None:
            folder.write(f"{module.name}.py", module.source)


def with_imports(nested: dict[str, object], modules: Iterable[PluginModule]) -> dict[str, object]:
    """A configuration as its file has it, with `imports` first if there are plugins."""
    names = [module.name for module in modules]
    return {"imports": names} | nested if names else nested


def plugin_parts(values: Iterable[object]) -> list[Part]:
    """The parts of plugins that are used.

    Args:
        values: setting values, among them names of parts and combinations of them (`a+b+c`).
    """
    names = {name for value in values for name in str(value).split("+")}
    return [
        registry[name] for _, parts in _loaded.values() for registry, name in parts if name in names
    ]


def _check_names(names: object) -> list[str]:
    """The content of `imports` as a list of module names, or ConfigError."""
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"imports: {names!r} is not a list of module names: give [my_losses]")
    for i, name in enumerate(names):
        if name.endswith(".py"):
            module = Path(name).stem
            raise ConfigError(f"imports: {name!r} is a file: give the module's name, {module!r}")
        if len(name) > NAME_BYTES or not all(word.isidentifier() for word in name.split(".")):
            raise ConfigError(
                f"imports: {name!r} is not a module's name: use letters, digits and '_', and "
                "put the module's file next to the file with `imports`"
            )
        if name in names[:i]:
            raise ConfigError(f"imports: {name!r} is listed twice: remove one")
    return names


def _find(name: str, folder: Store) -> PluginModule:
    """The plugin file in `folder`, else the installed module; ConfigError if there is neither."""
    path = join(folder.path, f"{name}.py")
    try:
        source = folder.read(f"{name}.py") if "." not in name else None
    except FileNotFoundError:
        source = None
    except OSError as error:
        raise ConfigError(f"imports: cannot read {path}: {error}") from error
    if source is not None:
        if _shadows_module(name):
            raise ConfigError(f"imports: {path} would hide the module '{name}': rename the file")
        return PluginModule(name, path, source)
    try:
        is_installed = name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:  # of a parent package: `mypackage` of `mypackage.losses`
        if not error.name or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"imports: {name}: {_describe_failure(name, '', error)}") from error
        is_installed = False
    except Exception as error:  # find_spec runs the parent packages
        raise ConfigError(f"imports: {name}: {_describe_failure(name, '', error)}") from error
    if not is_installed or (name in _loaded and _loaded[name][0].source is not None):
        raise ConfigError(
            f"imports: there is neither {path} nor an installed module '{name}': "
            f"{_hint(name, folder)}"
        )
    return PluginModule(name)


def _hint(name: str, folder: Store) -> str:
    """How to fix a missing module: a similar file name, or what to do."""
    files = [path.stem for path in folder.local.glob("*.py")] if folder.local else []
    near = difflib.get_close_matches(name, files, n=1)
    return f"did you mean '{near[0]}'?" if near else "put the file there, or install the module"


def _shadows_module(name: str) -> bool:
    """Whether a file of this name would hide a module of Python or of an installed package."""
    if name in sys.stdlib_module_names or name == "imbtune":
        return True
    if name in _loaded:
        return False
    spec = importlib.util.find_spec(name)
    installed = [Path(sysconfig.get_path(key)) for key in ("purelib", "platlib")]
    return bool(
        spec and spec.origin and any(Path(spec.origin).is_relative_to(path) for path in installed)
    )


def _note_imported(module: PluginModule) -> None:
    """Record the parts of a module that the user's program has imported before imbtune did."""
    present = sys.modules.get(module.name)
    if present is None or module.name in _loaded:
        return
    parts = [
        (registry, part.name)
        for registry in registries()
        for part in registry
        if f"{getattr(part.make, '__module__', '')}.".startswith(f"{module.name}.")
    ]
    path = getattr(present, "__file__", None)
    source = Path(path).read_bytes() if module.source is not None and path else None
    _loaded[module.name] = (replace(module, source=source), parts)


def _unload(name: str) -> None:
    """Remove a plugin and its parts."""
    if name in _loaded:
        for registry, part in _loaded.pop(name)[1]:
            registry.remove(part)
        sys.modules.pop(name, None)


def _load(module: PluginModule) -> None:
    """Run the module and record the parts that it registers; if it fails, remove all of them."""
    modules = set(sys.modules)
    before = {id(registry): set(registry.names()) for registry in registries()}
    try:
        if module.source is None:
            importlib.import_module(module.name)
        else:
            _run(module.name, module.path, module.source)
        for registry, name in _added(before):
            check_part(registry, registry[name])
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
    """The parts registered since `before`: the names in each registry, by its id()."""
    return [
        (registry, name)
        for registry in registries()
        for name in registry.names()
        if name not in before[id(registry)]
    ]


def _run(name: str, path: str, source: bytes) -> None:
    """Run the source of a plugin file as the module `name`."""
    tree = with_current_names(ast.parse(source, path))
    code = compile(tree, path, "exec", dont_inherit=True)
    # so that tracebacks show the source lines also on machines without the file
    lines = source.decode(errors="replace").splitlines(keepends=True)
    linecache.cache[path] = (len(source), None, lines, path)
    module: ModuleType = importlib.util.module_from_spec(
        importlib.util.spec_from_loader(name, loader=None, origin=path)  # type: ignore[arg-type]
    )
    module.__file__ = path
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    exec(code, module.__dict__)


def _describe_failure(name: str, path: str, error: BaseException) -> str:
    """Where and why a plugin failed: the last line of its own code that ran, and the error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
    top = name.partition(".")[0]
    reason = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError):
        reason += ": install it, or list its file in `imports` before this one"
    where = path or name
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__"))
        if module == name or module.startswith(f"{top}."):
            where = f"{frame.f_code.co_filename}, line {line}"
    return f"{where}: {reason}"
