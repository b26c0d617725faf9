-- The token that the agent's present one replaced, and when it ends.
ALTER TABLE catalog_agents ADD COLUMN old_token_hash TEXT;
ALTER TABLE catalog_agents ADD COLUMN old_token_ends BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX catalog_agents_old_token ON catalog_agents (old_token_hash);
