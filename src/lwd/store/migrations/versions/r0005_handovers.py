"""Handovers: who has told which robot what."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table, empty."""
    op.create_table(
        "handovers",
        sa.Column("handover_id", BIG_ID, nullable=False, autoincrement=True),
        sa.Column("robot", sa.String(128), nullable=False),
        sa.Column("press", sa.String(16), nullable=False),
        sa.Column("author", sa.String(128), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("handover_id", name="pk_handovers"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Forget them: the episodes still say who acted."""
    op.drop_table("handovers")
