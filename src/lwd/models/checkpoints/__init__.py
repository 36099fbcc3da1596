"""Checkpoints of others, read and written: openpi's, LeRobot's, Hugging Face's."""
