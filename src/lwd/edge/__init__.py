"""On the robot: keep finished episodes safe on disk and carry them to the fleet."""
