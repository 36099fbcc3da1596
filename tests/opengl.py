"""What a machine without OpenGL cannot show."""

import os

import pytest

needs_opengl = pytest.mark.skipif(
    os.environ.get("MUJOCO_GL") == "disable",
    reason="no EGL library: apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri",
)
"""Marks a test that renders."""
