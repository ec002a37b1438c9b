"""The settings that the trials of a search space may have."""

from __future__ import annotations

from imbtune.config.slots import SLOTS
from imbtune.config.train_config import PLAIN, TrainConfig
from imbtune.spaces.search_space import SearchSpace


def knob_types(space: SearchSpace) -> dict[str, type]:
    """The type of every setting that a trial of the space may have, in the order of the slots."""
    flats = [space.base().flat(), *(space.preset(name).flat() for name in space.presets())]
    for slot in SLOTS:
        ranges = [knob for knob in space.knobs if knob.key == slot]
        names = ranges[0].choices if ranges else ()
        flats += [TrainConfig.from_settings({slot: name}).flat() for name in names]
    types = {key: type(value) for flat in flats for key, value in flat.items()}
    order = [*SLOTS, *PLAIN]
    return dict(sorted(types.items(), key=lambda item: order.index(item[0].partition(".")[0])))
