"""Alembic scripts that bring a catalog of any age to the present schema."""
