"""Every correct gradient that the engine must never report as failed, by name."""

from __future__ import annotations

from gradient_cases import Right
from right_formulas import FORMULAS
from right_modules import MODULES
from right_operations import OPERATIONS
from right_scales import SCALES
from right_structures import STRUCTURES

PARTS = (FORMULAS, SCALES, OPERATIONS, STRUCTURES, MODULES)
RIGHT: dict[str, Right] = {name: case for part in PARTS for name, case in part.items()}
assert len(RIGHT) == sum(map(len, PARTS)), "two cases share a name"
