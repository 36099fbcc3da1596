"""Runs the revisions on the connection that `lwd.store.migrate` opened and locked."""

from alembic import context

from lwd.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
