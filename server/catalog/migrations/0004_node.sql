-- The node that the agent announced to the server that holds its newest session, as its
-- page names it; empty if none is known.
ALTER TABLE catalog_states ADD COLUMN tailnet_node TEXT NOT NULL DEFAULT '';
