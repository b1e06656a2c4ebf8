package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Every way of printing is tried, alone and inside other values, since a struct prints its fields by reflection.
func TestNothingPrintsASecret(t *testing.T) {
	const value = "hunter2-correct-horse"
	s := secret.New(value)
	type holder struct {
		Public string
		Secret secret.Text
		hidden secret.Text
	}
	h := holder{"p", s, s}
	var printed bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
		for _, v := range []any{s, &s, h, &h, []secret.Text{s}, map[string]secret.Text{"k": s}, fmt.Errorf("wrapped: %v", s)} {
			fmt.Fprintf(&printed, verb+"\n", v)
		}
	}
	if err := json.NewEncoder(&printed).Encode(map[string]any{"a": s, "b": h, "c": &s}); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&printed, nil)).Info("m", "s", s, "h", h)
	slog.New(slog.NewJSONHandler(&printed, nil)).Info("m", "s", s, "h", h)
	for _, form := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value)} {
		if strings.Contains(printed.String(), form) {
			t.Errorf("the secret was printed as %q", form)
		}
	}
	if s.Reveal() != value {
		t.Errorf("Reveal() = %q, want the value", s.Reveal())
	}
}

func TestZeroTextIsEmpty(t *testing.T) {
	var s secret.Text
	if !s.Empty() || s.Reveal() != "" {
		t.Error("the zero Text is not empty")
	}
}
