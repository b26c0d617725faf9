package exposition

// peopleFamilies are the families about the people who use the deployment.
func peopleFamilies() []Family {
	return []Family{
		{Name: "coderd_api_active_users_duration_hour", Type: Gauge, Deployment: true, Sides: ServerPage,
			Help: "People who called the API, or had a session open in a workspace of theirs, within the last hour."},
		{Name: "coderd_license_active_users", Type: Gauge, Deployment: true, Sides: ServerPage,
			Help: "People who were active within the last 30 days; absent without a licence."},
		{Name: "coderd_license_limit_users", Type: Gauge, Deployment: true, Sides: ServerPage,
			Help: "Seats of the licence; absent without one and when there is no limit."},
		{Name: "coderd_license_user_limit_enabled", Type: Gauge, Deployment: true, Sides: ServerPage,
			Help: "1 if the limit of seats is enforced, otherwise 0; absent without a licence."},
		{Name: "worktally_license_expiry_timestamp_seconds", Type: Gauge, Deployment: true, Sides: ServerPage,
			Help: "When the licence ends; absent without one."},
	}
}
