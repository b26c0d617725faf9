package catalog

import (
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire/agentpb"
)

// Spec is a workspace as asked for.
type Spec struct {
	Name string
	// Owner is the username; empty means whoever applies the spec.
	Owner    string
	Template Template
	Agents   []AgentSpec
}

// Template names what a workspace was made from. Both may be empty.
type Template struct {
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
}

// AgentSpec is one agent as asked for. The ids in it are derived from workspace,
// agent and name, so they are the same after every Apply.
type AgentSpec struct {
	Name        string            `json:"name"`
	Directory   string            `json:"directory,omitempty"`
	MOTDFile    string            `json:"motd_file,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
	Scripts     []Script          `json:"scripts,omitempty"`
	Apps        []App             `json:"apps,omitempty"`
	Metadata    []Metadata        `json:"metadata,omitempty"`
	Banners     []Banner          `json:"banners,omitempty"`
	Resources   Resources         `json:"resources,omitzero"`
}

// Script is one script of an agent.
type Script struct {
	ID          uuid.UUID `json:"id"`
	LogSourceID uuid.UUID `json:"log_source_id"`
	Name        string    `json:"name"`
	Text        string    `json:"text"`
	// Cron is the spec as the agent wants it: six fields with leading seconds
	// (day of week optional), or a descriptor; CRON_TZ= may stand in front.
	Cron             string        `json:"cron,omitempty"`
	RunOnStart       bool          `json:"run_on_start,omitempty"`
	RunOnStop        bool          `json:"run_on_stop,omitempty"`
	StartBlocksLogin bool          `json:"start_blocks_login,omitempty"`
	Timeout          time.Duration `json:"timeout,omitempty"`
	LogPath          string        `json:"log_path,omitempty"`
}

// App is one application of an agent.
type App struct {
	ID          uuid.UUID `json:"id"`
	Slug        string    `json:"slug"`
	DisplayName string    `json:"display_name,omitempty"`
	URL         string    `json:"url,omitempty"`
	Command     string    `json:"command,omitempty"`
	Icon        string    `json:"icon,omitempty"`
	External    bool      `json:"external,omitempty"`
	Hidden      bool      `json:"hidden,omitempty"`
	// Share is never unspecified.
	Share       agentpb.WorkspaceApp_SharingLevel `json:"share"`
	Healthcheck Healthcheck                       `json:"healthcheck,omitzero"`
}

// Healthcheck says how an app is probed. An empty URL means not at all.
type Healthcheck struct {
	URL       string        `json:"url,omitempty"`
	Interval  time.Duration `json:"interval,omitempty"`
	Threshold int32         `json:"threshold,omitempty"`
}

// Metadata is one value that the agent collects with a script. Interval and
// Timeout are whole seconds; zero means once, and the agent's default.
type Metadata struct {
	Key         string        `json:"key"`
	DisplayName string        `json:"display_name,omitempty"`
	Script      string        `json:"script"`
	Interval    time.Duration `json:"interval,omitempty"`
	Timeout     time.Duration `json:"timeout,omitempty"`
}

// Banner is shown to people who log in.
type Banner struct {
	Message         string `json:"message"`
	BackgroundColor string `json:"background_color,omitempty"`
}

// Resources says what the agent watches and reports.
type Resources struct {
	Memory  bool     `json:"memory,omitempty"`
	Volumes []string `json:"volumes,omitempty"`
}

// IsZero reports whether nothing is watched.
func (r Resources) IsZero() bool { return !r.Memory && len(r.Volumes) == 0 }
