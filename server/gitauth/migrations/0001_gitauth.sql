-- One row: a constant, sealed with the key that everything here is sealed with.
CREATE TABLE gitauth_key (
	id     BIGINT PRIMARY KEY,
	sealed {{blob}} NOT NULL
);

-- A person's account at a provider. The token is sealed. revision changes with
-- every write; who refreshes the token holds the lease meanwhile.
CREATE TABLE gitauth_links (
	user_id      TEXT NOT NULL REFERENCES catalog_users (id) ON DELETE CASCADE,
	provider     TEXT NOT NULL,
	revision     BIGINT NOT NULL,
	leased_until BIGINT NOT NULL DEFAULT 0,
	linked_at    BIGINT NOT NULL,
	obtained_at  BIGINT NOT NULL,
	expires_at   BIGINT NOT NULL,
	token        {{blob}} NOT NULL,
	PRIMARY KEY (user_id, provider)
);

-- A person's SSH key for git. The private half is sealed.
CREATE TABLE gitauth_ssh_keys (
	user_id    TEXT PRIMARY KEY REFERENCES catalog_users (id) ON DELETE CASCADE,
	public     TEXT NOT NULL,
	private    {{blob}} NOT NULL,
	created_at BIGINT NOT NULL
);
