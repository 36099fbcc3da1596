"""The robot's side of the ring: the `Robot` protocol, the control loop, its policy (Fig. 10)."""
