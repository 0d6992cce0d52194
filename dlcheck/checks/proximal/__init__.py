"""What every proximal operator satisfies: prox_tP(x) = argmin_u ½‖u − x‖² + t·P(u)."""
