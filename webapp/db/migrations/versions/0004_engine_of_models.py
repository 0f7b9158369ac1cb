"""Engine of models"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column(
        "registered_models",
        sa.Column("engine", sa.String(16), nullable=False, server_default="auto"),
    )


def downgrade():
    op.drop_column("registered_models", "engine")
