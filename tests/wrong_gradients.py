"""Every wrong gradient that the engine must find, by name."""

from __future__ import annotations

from gradient_cases import Wrong
from wrong_autograd import MACHINERY
from wrong_formulas import FORMULAS
from wrong_layers import LAYERS
from wrong_losses import LOSSES
from wrong_modules import MODULES

PARTS = (FORMULAS, LAYERS, LOSSES, MACHINERY, MODULES)
WRONG: dict[str, Wrong] = {name: case for part in PARTS for name, case in part.items()}
assert len(WRONG) == sum(map(len, PARTS)), "two cases share a name"
