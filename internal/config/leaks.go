package config

import "github.com/lotse-eu/lotse/internal/deploy"

type leaks struct {
	Allow allowedLeaks `json:"allow" jsonschema_description:"What looks like a key and may be in a commit: a list of rule, file (a pattern; ** stands for any folders) and reason."`
}

type allowedLeaks []allowedLeak

type allowedLeak struct {
	Rule   text `json:"rule" jsonschema:"required,minLength=1,example=gcp-api-key" jsonschema_description:"What the refusal names."`
	File   text `json:"file" jsonschema:"required,minLength=1,example=docs/maps.md" jsonschema_description:"File that carries it, or a pattern of files."`
	Reason text `json:"reason" jsonschema:"required,minLength=1,example=revoked on 2026-11-20" jsonschema_description:"Why it may be there."`
}

func (l *allowedLeaks) grow() any {
	*l = append(*l, allowedLeak{})
	return &(*l)[len(*l)-1]
}

func (l allowedLeaks) leaks() (all []deploy.AllowedLeak) {
	for _, a := range l {
		all = append(all, deploy.AllowedLeak{Rule: string(a.Rule), File: string(a.File), Reason: string(a.Reason)})
	}
	return all
}
