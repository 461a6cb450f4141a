"""From float to integers: ranges, weights, batch-norm numbers and activation tables of the KPU layers."""
