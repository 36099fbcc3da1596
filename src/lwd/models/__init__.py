"""Policies and critics as plain functions on parameter trees, and their way to a robot."""
