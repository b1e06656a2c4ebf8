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
		{"stages.*.engine", "local", ""},
		{"stages.*.watch", "60s", ""},
		{"stages.*.warm", "5m", ""},
		{"stages.*.stable", "5s", ""},
		{"aws.region", "eu-central-1", ""},
		{"aws.balancer", "shared", ""},
		{"aws.database", "db.t4g.micro", ""},
	}
}

// names reports whether d is of the field name in the mapping at.
func (d defaultValue) names(at []string, name string) bool {
	parts, whole := strings.Split(d.field, "."), append(slices.Clone(at), name)
	if len(parts) == 3 && len(whole) == 3 {
		parts[1] = whole[1]
	}
	return slices.Equal(parts, whole)
}

// given is what the file says of the field of a mapping without names, or else its default.
func given(said text, mapping, name string) string {
	if d, ok := defaultOf([]string{mapping}, name); ok && said == "" {
		return d.value
	}
	return string(said)
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
