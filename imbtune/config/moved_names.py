"""Names of imbtune that have moved, so that plugin files with the old ones still run.

A study keeps a copy of its plugin files, which import imbtune's modules as they were named when the
study was made. :func:`with_current_names` rewrites these imports before the file is run. Only the
code in memory changes, not the file.
"""

from __future__ import annotations

import ast

MODULES = {  # old: current
    "imbtune.data.benchmarks": "imbtune.data.readers.published",
    "imbtune.data.datasets": "imbtune.data.load",
    "imbtune.data.download": "imbtune.data.readers.download",
    "imbtune.data.encoded": "imbtune.data.encoded_images",
    "imbtune.data.folders": "imbtune.data.readers.folders",
    "imbtune.data.hf_parquet": "imbtune.data.readers.hf_parquet",
    "imbtune.data.npz": "imbtune.data.readers.npz",
    "imbtune.data.own": "imbtune.data.readers.user",
    "imbtune.data.profiles": "imbtune.data.imbalance",
    "imbtune.data.reading": "imbtune.data.data_source",
    "imbtune.final": "imbtune.final_training.retrain",
    "imbtune.methods.blending": "imbtune.methods.mixing.blending",
    "imbtune.methods.finishing": "imbtune.methods.posthoc",
    "imbtune.methods.generating": "imbtune.methods.image_generation",
    "imbtune.methods.labelling": "imbtune.methods.mixing.label_rules",
    "imbtune.methods.pairing": "imbtune.methods.mixing.pairing",
    "imbtune.methods.sampling": "imbtune.methods.class_sampling",
    "imbtune.methods.schedules": "imbtune.methods.lr_schedules",
    "imbtune.methods.weighting": "imbtune.methods.class_weights",
    "imbtune.presets": "imbtune.spaces.presets",
    "imbtune.retrain": "imbtune.final_training.retrain",
    "imbtune.slots": "imbtune.config.slots",
    "imbtune.train_input": "imbtune.final_training.train_input",
    "imbtune.trained_model": "imbtune.inference.trained_model",
}
NAMES = {  # (old module, old name): (current module, current name)
    ("imbtune.config", "Choice"): ("imbtune.config.train_config", "ChosenPart"),
    ("imbtune.config", "TrainConfig"): ("imbtune.config.train_config", "TrainConfig"),
    ("imbtune.data.datasets", "Reading"): ("imbtune.data.load", "DataSource"),
    ("imbtune.data.encoded", "Shape"): ("imbtune.data.encoded_images", "TargetShape"),
    ("imbtune.data.encoded", "Source"): ("imbtune.data.encoded_images", "EncodedImages"),
    ("imbtune.data.encoded", "read_sources"): ("imbtune.data.encoded_images", "decode_images"),
    ("imbtune.data.reading", "Reading"): ("imbtune.data.data_source", "DataSource"),
    ("imbtune.data.reading", "datasets"): ("imbtune.data.dataset_registry", "datasets"),
    ("imbtune.data.splits", "Look"): ("imbtune.data.splits", "Preprocessing"),
    ("imbtune.methods.finishing", "finishers"): ("imbtune.methods.posthoc", "posthoc_methods"),
    ("imbtune.methods.losses", "plain"): ("imbtune.methods.losses", "plain_cross_entropy"),
    ("imbtune.methods.mixing", "Mix"): ("imbtune.methods.mixing.mix", "Mix"),
    ("imbtune.methods.mixing", "MixOptions"): ("imbtune.methods.mixing.mix", "MixOptions"),
    ("imbtune.methods.mixing", "mixes"): ("imbtune.methods.mixing.mix", "mixes"),
    ("imbtune.registry", "Entry"): ("imbtune.registry", "Part"),
    ("imbtune.registry", "Parameter"): ("imbtune.registry", "DeclaredKnob"),
    ("imbtune.registry", "parameters_of"): ("imbtune.registry", "knobs_of"),
}
KEYWORDS = {  # (old module, function): its renamed arguments
    ("imbtune.data.splits", "Dataset"): {"look": "preprocessing"},
}


def with_current_names(tree: ast.Module) -> ast.Module:
    """Rewrite, in place, the imports of moved names and their uses through an imported module.

    `from old import name` becomes `from current import current_name as name`. Line numbers stay.
    """
    renamed: ast.Module = _Renamer().visit(tree)
    return ast.fix_missing_locations(renamed)


class _Renamer(ast.NodeTransformer):
    def __init__(self) -> None:
        self.imported: dict[str, str] = {}  # a local name, and the old module that it stands for

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | list[ast.stmt]:
        if node.level or not node.module:
            return node
        statements: list[ast.stmt] = []
        names = list(node.names)
        if names[0].name == "*":  # it no longer brings the names that have moved or changed
            names += [ast.alias(name) for module, name in NAMES if module == node.module]
            names += [ast.alias(name) for module, name in KEYWORDS if module == node.module]
        for alias in names:
            local = alias.asname or alias.name
            self.imported[local] = f"{node.module}.{alias.name}"
            module, name = _current(node.module, alias.name)
            renamed = ast.alias(name, None if name == local else local)
            statements.append(ast.copy_location(ast.ImportFrom(module, [renamed], 0), node))
        return statements

    def visit_Import(self, node: ast.Import) -> ast.Import:
        for alias in node.names:
            if alias.asname:
                self.imported[alias.asname] = alias.name
            alias.name = MODULES.get(alias.name, alias.name)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        before, base = ast.unparse(node), ast.unparse(node.value)
        self.generic_visit(node)
        if (old := self._resolve(before)) in MODULES:  # `imbtune.old.module`
            return ast.copy_location(_imported(MODULES[old]), node)
        owner = self._resolve(base)
        if (owner, node.attr) not in NAMES:
            return node
        module, node.attr = NAMES[owner, node.attr]
        if module != MODULES.get(owner, owner):  # it moved to another module than its neighbours
            node.value = ast.copy_location(_imported(module), node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        module, _, function = self._resolve(ast.unparse(node.func)).rpartition(".")
        arguments = KEYWORDS.get((module, function), {})
        for keyword in node.keywords:
            keyword.arg = arguments.get(keyword.arg or "", keyword.arg)
        self.generic_visit(node)
        return node

    def _resolve(self, name: str) -> str:
        """The full name, in the old layout, of a name that an import has bound, or of its parts."""
        first, dot, rest = name.partition(".")
        return f"{self.imported.get(first, first)}{dot}{rest}"


def _current(module: str, name: str) -> tuple[str, str]:
    """Where `name`, which may be a submodule, of an old module is now: module and name."""
    if (module, name) in NAMES:
        return NAMES[module, name]
    if submodule := MODULES.get(f"{module}.{name}"):
        package, _, last = submodule.rpartition(".")
        return package, last
    return MODULES.get(module, module), name


def _imported(module: str) -> ast.expr:
    """An expression that is the module, wherever it is put."""
    return ast.parse(f"__import__('importlib').import_module({module!r})", mode="eval").body
