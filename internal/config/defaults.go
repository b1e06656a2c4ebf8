package config

import (
	"slices"
	"strings"
)

// defaultValue is what stands where the file says nothing.
type defaultValue struct {
	field string // * stands for any name
	value string // as it would be written in the file
	with  string // only where this field beside it is given
}

// defaults is the one table of them.
func defaults() []defaultValue {
	return []defaultValue{
		{"pipeline.*.in", ".", ""},
		{"pipeline.*.timeout", "15m", ""},
		{"services.*.path", "/", "static"},
		{"services.*.instances", "1", "command"},
		{"services.*.start", "60s", "command"},
		{"services.*.drain", "30s", "command"},
		{"jobs.*.timeout", "1h", ""},
		{"gates.smoke.*.timeout", "30s", ""},
		{"stages.*.gates.smoke.*.timeout", "30s", ""},
		{"stages.*.engine", "local", ""},
		{"stages.*.watch", "60s", ""},
		{"stages.*.warm", "5m", ""},
		{"stages.*.stable", "5s", ""},
		{"stages.*.old_files", "24h", ""},
		{"stages.*.strategy", "blue-green", ""},
		{"stages.*.limits.errors", "5%", ""},
		{"stages.*.limits.requests", "50", ""},
		{"aws.region", "eu-central-1", ""},
		{"aws.balancer", "shared", ""},
		{"aws.database", "db.t4g.micro", ""},
	}
}

// names reports whether d is of the field name in the mapping at.
func (d defaultValue) names(at []string, name string) bool {
	parts, whole := strings.Split(d.field, "."), append(slices.Clone(at), name)
	for i := range min(len(parts), len(whole)) {
		if parts[i] == "*" {
			parts[i] = whole[i]
		}
	}
	return slices.Equal(parts, whole)
}

// defaultOf finds the default of a field.
func defaultOf(at []string, name string) (defaultValue, bool) {
	for _, d := range defaults() {
		if d.names(at, name) {
			return d, true
		}
	}
	return defaultValue{}, false
}
