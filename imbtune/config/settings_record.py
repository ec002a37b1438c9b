"""The settings that a search chose, recorded beside them in its files `best.yaml`, `front-N.yaml`.

So a training of such a file knows whether its settings are still those, or were edited.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from imbtune.config.train_config import TrainConfig

SETTINGS, DIGEST = "settings", "settings_sha256"  # keys of the provenance


def settings_record(config: TrainConfig) -> dict[str, Any]:
    """Entries of a provenance: all settings, and their SHA-256.

    The digest is there because replacing a text in the whole file changes the record, too.
    """
    settings = config.flat()
    return {SETTINGS: settings, DIGEST: _digest(settings)}


def recorded_settings(provenance: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The settings of a record; None without one, or where it was edited."""
    settings = provenance.get(SETTINGS)
    if not isinstance(settings, dict):
        return None
    try:
        is_own = provenance.get(DIGEST) == _digest(settings)
    except (TypeError, ValueError):  # edited: keys of several types, or not a number
        return None
    return settings if is_own else None


def _digest(settings: Mapping[str, Any]) -> str:
    # YAML may have dates, which JSON does not
    text = json.dumps(settings, sort_keys=True, default=str, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
