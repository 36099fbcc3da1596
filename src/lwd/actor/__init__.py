"""The robot's side of the ring: the `Robot` protocol, the control loop, the policy it runs (Fig. 10)."""
