package process

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// wire is a Spec on its way to a keeper, through a pipe: the one place where the masked values are written out.
type wire struct {
	Spec
	Mask []string // hides Spec.Mask, which would arrive as dots
}

func (s Spec) encode() ([]byte, error) {
	w := wire{Spec: s}
	for _, v := range s.Mask {
		w.Mask = append(w.Mask, v.Reveal())
	}
	return json.Marshal(w)
}

func decodeSpec(r io.Reader) (Spec, error) {
	var w wire
	if err := json.NewDecoder(r).Decode(&w); err != nil {
		return Spec{}, fmt.Errorf("%w: read what to run: %w", ErrKeeper, err)
	}
	for _, v := range w.Mask {
		w.Spec.Mask = append(w.Spec.Mask, secret.New(v))
	}
	return w.Spec, nil
}

// grace is the time between SIGTERM and SIGKILL.
func (s Spec) grace() time.Duration {
	if s.Grace <= 0 {
		return 10 * time.Second
	}
	return s.Grace
}
