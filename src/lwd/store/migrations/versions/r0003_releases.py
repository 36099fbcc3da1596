"""A policy has an audience, a note of what an operator did, and a place in a chain of hashes."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TEXT = ("audience", "note")
_CHAINED = ("version", "sha256", "stage", "update", "snapshot", *_TEXT)


def upgrade() -> None:
    """Add the columns and chain what was published so far."""
    for name in _TEXT:
        op.add_column(
            "weights", sa.Column(name, sa.Text(), nullable=False, server_default=sa.text("''"))
        )
    op.add_column(
        "weights", sa.Column("chain", sa.String(64), nullable=False, server_default=sa.text("''"))
    )
    table = sa.table("weights", *map(sa.column, (*_CHAINED, "chain")))
    connection, chain = op.get_bind(), ""
    columns = [table.c[name] for name in _CHAINED]
    for row in connection.execute(sa.select(*columns).order_by(table.c.version)).all():
        chain = hashlib.sha256("\n".join(map(str, (chain, *row))).encode()).hexdigest()
        connection.execute(
            sa.update(table).where(table.c.version == row.version).values(chain=chain)
        )


def downgrade() -> None:
    """Who got what and why is lost; a canary's version becomes everybody's."""
    with op.batch_alter_table("weights") as batch:
        for name in (*_TEXT, "chain"):
            batch.drop_column(name)
