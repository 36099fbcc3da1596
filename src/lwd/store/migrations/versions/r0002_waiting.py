"""Episodes that wait for a snapshot have a table, so that finding them stays cheap."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table and fill it with the episodes that wait now."""
    op.create_table(
        "waiting",
        sa.Column("episode_id", sa.String(64), nullable=False),
        sa.Column("inserted_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("episode_id", name="pk_waiting"),
        sa.ForeignKeyConstraint(
            ["episode_id"], ["episodes.episode_id"], name="fk_waiting_episode_id"
        ),
    )
    op.create_index("ix_waiting_inserted_at", "waiting", ["inserted_at", "episode_id"])
    op.execute(
        """
        INSERT INTO waiting (episode_id, inserted_at)
        SELECT episode_id, inserted_at FROM episodes
        WHERE NOT EXISTS (SELECT 1 FROM members m WHERE m.episode_id = episodes.episode_id)
        AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.episode_id = episodes.episode_id)
        """
    )


def downgrade() -> None:
    """Who waits follows from the other tables."""
    op.drop_table("waiting")
