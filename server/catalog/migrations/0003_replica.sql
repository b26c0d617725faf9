-- Which server holds the agent's newest session.
ALTER TABLE catalog_states ADD COLUMN replica TEXT NOT NULL DEFAULT '';
