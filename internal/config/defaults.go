package config

import "strings"

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
	}
}

// defaultOf finds the default of a field.
func defaultOf(at []string, name string) (defaultValue, bool) {
	for _, d := range defaults() {
		if parts := strings.Split(d.field, "."); len(at) == 2 && parts[0] == at[0] && parts[2] == name {
			return d, true
		}
	}
	return defaultValue{}, false
}
