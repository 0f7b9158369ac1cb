"""Strikes against artifacts that kill or stall workers"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "artifact_strikes",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("strikes", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_artifact_strikes")),
    )


def downgrade():
    op.drop_table("artifact_strikes")
