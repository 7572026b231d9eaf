"""Run by Alembic.  `migrating` passes the connection, already in the transaction that all is part of."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
context.run_migrations()
