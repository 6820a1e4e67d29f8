"""Migrations, applied in order by `overnight migrate` (playhouse.migrations)."""
