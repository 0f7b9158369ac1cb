"""Compilations that are due"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade():
    due = op.create_table(
        "due_compilations",
        sa.Column("version_id", sa.String(36), nullable=False),
        sa.Column("sample", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["model_versions.id"],
            name=op.f("fk_due_compilations_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_due_compilations")),
    )
    # Those that waited when their process ended were forgotten until now.
    versions = sa.table("model_versions", sa.column("id"), sa.column("passport", sa.JSON))
    never_ended = versions.c.passport["compilation"].as_string().is_(None)
    lost = sa.select(versions.c.id, sa.literal(b"", sa.LargeBinary()), sa.literal(0))
    columns = ["version_id", "sample", "attempts"]
    op.execute(sa.insert(due).from_select(columns, lost.where(never_ended)))


def downgrade():
    op.drop_table("due_compilations")
