"""Fault injection: a fleet under fire, and the proof that nothing was lost and nothing doubled."""
