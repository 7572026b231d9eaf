"""What the coordinator signs of a round, for the receipts of its clients."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "published",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("what", sa.Text(), server_default="", nullable=False),
        sa.Column("survivors", sa.Text(), server_default="", nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("model_sha256", sa.Text(), nullable=False),
        sa.Column("audit_sha256", sa.Text(), nullable=False),
        sa.Column("wall", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_published_run_runs")),
        sa.PrimaryKeyConstraint("run", "round", name=op.f("pk_published")),
    )
