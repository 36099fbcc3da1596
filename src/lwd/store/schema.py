"""Tables of the catalog. `migrations/` creates them; a test checks that the two agree."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

REVISIONS = ("0001", "0002", "0003", "0004", "0005")
"""Revisions of the schema, oldest first; `migrations/versions` has a file for each."""
HEAD = REVISIONS[-1]

# SQLite numbers rows by itself only in an INTEGER primary key.
BigId = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

episodes = Table(
    "episodes",
    metadata,
    Column("episode_id", String(64), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("robot", String(128), nullable=False),
    Column("task", String(128), nullable=False),
    Column("instruction", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("policy_version", Integer, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("terminated", Boolean, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("ticks", Integer, nullable=False),
    Column("rate_hz", Float, nullable=False),
    Column("horizon", Integer, nullable=False),
    Column("produced_at", Float, nullable=False),
    Column("inserted_at", Float, nullable=False),
    Column("interventions", Integer, nullable=False, server_default="0"),
    Column("held_out", Boolean, nullable=False, server_default=false()),
    Index("ix_episodes_inserted_at", "inserted_at"),
)

# Episodes that are neither members of a snapshot nor dead letters yet.
waiting = Table(
    "waiting",
    metadata,
    Column("episode_id", ForeignKey("episodes.episode_id"), primary_key=True),
    Column("inserted_at", Float, nullable=False),
    Index("ix_waiting_inserted_at", "inserted_at", "episode_id"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("outbox_id", BigId, primary_key=True, autoincrement=True),
    Column("subject", String(64), nullable=False),
    Column("key", String(128), nullable=False),
    Column("payload", Text, nullable=False),
    sqlite_autoincrement=True,  # an id never comes back, so a late relay deletes nothing new
)

pointers = Table(
    "pointers",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("version", Integer, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("token", Integer, nullable=False),
    Column("expires_at", Float, nullable=False),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("added", Integer, nullable=False),
    Column("token", Integer, nullable=False),
    Column("committed_at", Float, nullable=False),
)

# The primary key is what makes an episode a member of the data set once, whoever commits.
members = Table(
    "members",
    metadata,
    Column("episode_id", ForeignKey("episodes.episode_id"), primary_key=True),
    Column("version", ForeignKey("snapshots.version"), nullable=False),
    Index("ix_members_version", "version", "episode_id"),
)

weights = Table(
    "weights",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("snapshot", Integer, nullable=False),
    Column("stage", String(32), nullable=False),
    Column("update", Integer, nullable=False),
    Column("published_at", Float, nullable=False),
    Column("audience", Text, nullable=False, server_default=text("''")),
    Column("note", Text, nullable=False, server_default=text("''")),
    Column("chain", String(64), nullable=False, server_default=text("''")),
)

loads = Table(
    "loads",
    metadata,
    Column("load_id", BigId, primary_key=True, autoincrement=True),
    Column("robot", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("loaded_at", Float, nullable=False),
    UniqueConstraint("robot", "version", "loaded_at"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("episode_id", String(128), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("stage", String(64), nullable=False),
    Column("at", Float, nullable=False),
)

availability = Table(
    "availability",
    metadata,
    Column("episode_id", String(64), primary_key=True),
    Column("reader", String(64), primary_key=True),
    Column("at", Float, nullable=False),
)

# What people have changed about members, and when it took effect: an audit trail, append-only.
amendments = Table(
    "amendments",
    metadata,
    Column("amendment_id", BigId, primary_key=True, autoincrement=True),
    Column("episode_id", ForeignKey("episodes.episode_id"), nullable=False),
    Column("change", String(16), nullable=False),
    Column("value", Text, nullable=False),
    Column("author", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("version", Integer),
    Index("ix_amendments_version", "version", "episode_id"),
    Index("ix_amendments_episode_id", "episode_id"),
    sqlite_autoincrement=True,
)

# The highest version is the oldest that is retained.
retentions = Table(
    "retentions",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("author", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
)

# What people have told robots: an audit trail, append-only.
handovers = Table(
    "handovers",
    metadata,
    Column("handover_id", BigId, primary_key=True, autoincrement=True),
    Column("robot", String(128), nullable=False),
    Column("press", String(16), nullable=False),
    Column("author", String(128), nullable=False),
    Column("at", Float, nullable=False),
    sqlite_autoincrement=True,
)
