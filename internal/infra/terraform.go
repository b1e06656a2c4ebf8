package infra

// terraformFile is one file of the module, and which apps have it.
type terraformFile struct {
	name string
	when func(plan) bool
}

func terraformFiles() []terraformFile {
	all := func(plan) bool { return true }
	running := func(p plan) bool { return !p.Static }
	return []terraformFile{
		{"main.tf", all},
		{"variables.tf", func(p plan) bool { return p.AWS.Repository != "" }},
		{"network.tf", running},
		{"roles.tf", all},
		{"storage.tf", all},
		{"application.tf", running},
		{"balancer.tf", running},
		{"site.tf", func(p plan) bool { return p.Static }},
		{"database.tf", func(p plan) bool { return p.Databases }},
		{"volumes.tf", func(p plan) bool { return p.Volumes }},
		{"names.tf", func(p plan) bool { return p.AWS.Zone != "" }},
		{"watch.tf", func(p plan) bool { return p.Told }},
		{"outputs.tf", all},
	}
}
