from tests.database import app_context, bare_app, database_url, migrated_url, unmigrated_url

__all__ = ["app_context", "bare_app", "database_url", "migrated_url", "unmigrated_url"]
