"""How good is a policy: the same held-out starts for every one, with intervals (V-A)."""
