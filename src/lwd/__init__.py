"""Learning while Deploying: a fleet of working robots as a training loop."""

__version__ = "0.1.0"
