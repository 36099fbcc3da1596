"""The simulated fleet: a dual-arm robot, its tasks, their experts and the operator (V-A)."""
