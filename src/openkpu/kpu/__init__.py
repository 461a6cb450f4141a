"""The accelerator: registers, feature-map layout, arithmetic (reference and native), and the rules of what fits it."""
