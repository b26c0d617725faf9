package exposition

// insightFamilies tell how templates are used, from what agents reported for the
// last five whole minutes and from the builds of the last five minutes.
func insightFamilies() []Family {
	return []Family{
		{Name: "coderd_insights_applications_usage_seconds", Type: Gauge, Deployment: true, Sides: ServerPage, Labels: []string{"application_name", "slug", "template_name"},
			Help: "Use of applications in the last five whole minutes: for each user the minutes that began with an open session, summed, in seconds."},
		{Name: "coderd_insights_templates_active_users", Type: Gauge, Deployment: true, Sides: ServerPage, Labels: []string{"template_name"},
			Help: "Users with a session in a workspace of the template in the last five whole minutes."},
		{Name: "coderd_insights_parameters", Type: Gauge, Deployment: true, Sides: ServerPage, Labels: []string{"parameter_name", "parameter_type", "parameter_value", "template_name"},
			Help: "Workspaces whose latest build is less than five minutes old, by parameter value; redacted unless marked safe."},
	}
}
