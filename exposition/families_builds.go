package exposition

// buildFamilies tell of builds and jobs, from the events of a control plane.
func buildFamilies(mode LabelMode) []Family {
	builds := mode.pick(
		[]string{"action", "owner_email", "status", "template_name", "template_version", "workspace_name", "workspace_owner", "workspace_transition"},
		[]string{"action", "owner_email", "status", "template_name", "template_version", "workspace_name"},
		[]string{"status", "template_name", "template_version", "workspace_name", "workspace_owner", "workspace_transition"})
	statuses := []string{"canceled", "canceling", "failed", "pending", "running", "succeeded"}
	return []Family{
		{Name: "coderd_api_workspace_latest_build", Type: Gauge, Deployment: true, Sides: ServerPage, Labels: []string{"status"}, Zeros: [][]string{statuses},
			Help: "Workspaces by the status of their latest build."},
		{Name: "coderd_api_workspace_latest_build_total", Type: Gauge, Deployment: true, Deprecated: true, Sides: ServerPage, Labels: []string{"status"}, Zeros: [][]string{statuses},
			Help: "Deprecated: equal to coderd_api_workspace_latest_build."},
		{Name: "coderd_workspace_latest_build_status", Type: Gauge, Deployment: true, Sides: ServerPage,
			Labels: []string{"status", "template_name", "template_version", "workspace_owner", "workspace_transition"},
			Help:   "Workspaces by owner, template and what their latest build did, with which status."},
		{Name: "coderd_workspace_builds_total", Type: Counter, Deployment: true, Sides: ServerPage, Labels: builds,
			Help: "Builds that ended, each counted once; ends an hour after the workspace was deleted."},
		{Name: "worktally_builds_total", Type: Counter, Deployment: true, Sides: ServerPage, Labels: []string{"status", "workspace_transition"},
			Zeros: [][]string{{"failed", "success"}, {"DESTROY", "START", "STOP"}},
			Help:  "Builds ever ended in all workspaces, deleted ones too; never falls and never expires."},
		{Name: "worktally_builds_unlisted_total", Type: Counter, Deployment: true, Sides: ServerPage, Zeros: [][]string{},
			Help: "Builds for which coderd_workspace_builds_total had no room for a series; they count in worktally_builds_total."},
		{Name: "coderd_provisionerd_jobs_current", Type: Gauge, Deployment: true, Sides: ServerPage, Labels: []string{"provisioner"}, Zeros: [][]string{{"terraform"}},
			Help: "Jobs and builds that run now; one that began more than a day ago is taken for lost."},
		{Name: "coderd_provisionerd_job_timings_seconds", Type: Histogram, Deployment: true, Sides: ServerPage, Labels: []string{"provisioner", "status"},
			Help: "Duration of jobs and builds, observed once when both their start and their end are known."},
	}
}
