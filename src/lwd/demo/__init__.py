"""The whole ring on one machine: a simulated fleet teaches the policy that it runs."""
