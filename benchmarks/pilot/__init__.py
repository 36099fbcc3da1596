"""The pilot study: one policy for all eight tasks, through SFT, offline RL and a fleet."""
