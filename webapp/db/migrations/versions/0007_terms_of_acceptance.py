"""Terms under which versions were accepted"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade():
    # Those from before were accepted under no terms of today: they are judged again.
    terms = sa.Column("judged_under", sa.String(64), nullable=False, server_default="")
    op.add_column("model_versions", terms)
    op.add_column("model_versions", sa.Column("refusal", sa.JSON(), nullable=True))


def downgrade():
    op.drop_column("model_versions", "refusal")
    op.drop_column("model_versions", "judged_under")
