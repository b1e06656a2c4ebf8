package local_test

import (
	"errors"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// The address of an ended stage is free; before, the proxy gives it to nobody else. An old fence ends nothing.
func TestEndedStageFreesItsAddress(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	m.up(t, e, 0, "one", web("good", 1))
	if err := e.Shift(within(t, patience), 5, "one", 100); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(within(t, patience), 5, "one", 0); err != nil {
		t.Fatal(err)
	}
	renamed := m.stages[0]
	renamed.Name = "renamed"
	other := m.open(t, renamed)
	order := m.order(0, "two", m.release(t, "two", web("good", 1)))
	order.Stage = renamed
	if err := other.Start(within(t, patience), 1, order); !errors.Is(err, deploy.ErrBadInput) {
		t.Errorf("a start at an address that another stage has: %v", err)
	}
	if err := e.End(within(t, patience), 4); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("an end with an old fence: %v", err)
	}
	for range 2 {
		if err := e.End(within(t, patience), 5); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.client.Get(within(t, patience), "shop/"+m.stages[0].Name); !errors.Is(err, proxy.ErrUnknown) {
		t.Errorf("the proxy still knows the stage: %v", err)
	}
	if err := other.Start(within(t, patience), 1, order); err != nil {
		t.Errorf("a start at the freed address: %v", err)
	}
	if err := other.Stop(within(t, patience), 1, "two", 0); err != nil {
		t.Error(err)
	}
}
