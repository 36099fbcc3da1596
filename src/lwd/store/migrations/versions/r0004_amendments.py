"""Amendments: tombstones and relabels, with who, why and since which version; and retention."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create both tables, empty."""
    op.create_table(
        "amendments",
        sa.Column("amendment_id", BIG_ID, nullable=False, autoincrement=True),
        sa.Column("episode_id", sa.String(64), nullable=False),
        sa.Column("change", sa.String(16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("author", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("amendment_id", name="pk_amendments"),
        sa.ForeignKeyConstraint(
            ["episode_id"], ["episodes.episode_id"], name="fk_amendments_episode_id"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_amendments_version", "amendments", ["version", "episode_id"])
    op.create_index("ix_amendments_episode_id", "amendments", ["episode_id"])
    op.create_table(
        "retentions",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_retentions"),
    )


def downgrade() -> None:
    """Forget them: an older lwd trains on every member, as it was recorded."""
    op.drop_table("retentions")
    op.drop_table("amendments")
