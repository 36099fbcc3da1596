"""Episodes with their outbox, snapshots, weights, leases, loads, dead letters, availability."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create everything and the two pointers, which every later transaction locks."""
    _episodes()
    _dataset()
    _policy()
    pointers = op.create_table(
        "pointers",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_pointers"),
    )
    op.bulk_insert(
        pointers, [{"name": "snapshot", "version": 0}, {"name": "weights", "version": 0}]
    )


def _episodes() -> None:
    op.create_table(
        "episodes",
        sa.Column("episode_id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("robot", sa.String(128), nullable=False),
        sa.Column("task", sa.String(128), nullable=False),
        sa.Column("instruction", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("terminated", sa.Boolean(), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("ticks", sa.Integer(), nullable=False),
        sa.Column("rate_hz", sa.Float(), nullable=False),
        sa.Column("horizon", sa.Integer(), nullable=False),
        sa.Column("produced_at", sa.Float(), nullable=False),
        sa.Column("inserted_at", sa.Float(), nullable=False),
        sa.Column("interventions", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("held_out", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("episode_id", name="pk_episodes"),
    )
    op.create_index("ix_episodes_inserted_at", "episodes", ["inserted_at"])
    op.create_table(
        "outbox",
        sa.Column("outbox_id", BIG_ID, nullable=False, autoincrement=True),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("outbox_id", name="pk_outbox"),
        sqlite_autoincrement=True,
    )


def _dataset() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "snapshots",
        sa.Column("version", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("added", sa.Integer(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("committed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_snapshots"),
    )
    op.create_table(
        "members",
        sa.Column("episode_id", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("episode_id", name="pk_members"),
        sa.ForeignKeyConstraint(
            ["episode_id"], ["episodes.episode_id"], name="fk_members_episode_id"
        ),
        sa.ForeignKeyConstraint(["version"], ["snapshots.version"], name="fk_members_version"),
    )
    op.create_index("ix_members_version", "members", ["version", "episode_id"])
    op.create_table(
        "dead_letters",
        sa.Column("episode_id", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("stage", sa.String(64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("episode_id", name="pk_dead_letters"),
    )
    op.create_table(
        "availability",
        sa.Column("episode_id", sa.String(64), nullable=False),
        sa.Column("reader", sa.String(64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("episode_id", "reader", name="pk_availability"),
    )


def _policy() -> None:
    op.create_table(
        "weights",
        sa.Column("version", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("snapshot", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(32), nullable=False),
        sa.Column("update", sa.Integer(), nullable=False),
        sa.Column("published_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_weights"),
    )
    op.create_table(
        "loads",
        sa.Column("load_id", BIG_ID, nullable=False, autoincrement=True),
        sa.Column("robot", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("loaded_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("load_id", name="pk_loads"),
        sa.UniqueConstraint("robot", "version", "loaded_at", name="uq_loads_robot"),
    )
