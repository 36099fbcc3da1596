"""Frames, episodes, their payload and the chunked windows that training draws from them."""
