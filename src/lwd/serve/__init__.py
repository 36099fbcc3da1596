"""A policy for robots that run no code of ours, by openpi's websocket protocol; its client."""
