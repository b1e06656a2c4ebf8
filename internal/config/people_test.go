package config_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
)

func withPeople(people string) []byte {
	return []byte(strings.Replace(string(withStage("")), "stages:", "people: "+people+"\nstages:", 1))
}

func TestReadPeople(t *testing.T) {
	app, err := config.Read("lotse.yaml", withPeople("{ users.email: mail, audit.log.actor: keep, users.profile/address: address }"))
	want := []deploy.PersonalColumn{{Column: "users.email", Kind: "mail"}, {Column: "audit.log.actor", Kind: "keep"}, {Column: "users.profile/address", Kind: "address"}}
	if err != nil || !slices.Equal(app.People, want) {
		t.Errorf("%v, %v", app.People, err)
	}
}

func TestMistakesInPeople(t *testing.T) {
	for said, want := range map[string]string{
		"{ users.email: email }":   `must be a kind, not "email"`,
		"{ users.email: mial }":    `did you mean "mail"?`,
		"{ email: mail }":          "people.email must be TABLE.COLUMN",
		"{ users.: mail }":         "must be TABLE.COLUMN",
		"{ users.email: [mail] }":  "people.users.email",
		"{ a.b: mail, a.b: text }": "a.b",
	} {
		_, err := config.Read("lotse.yaml", withPeople(said))
		if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error()+deploy.HintOf(err), want) || !strings.Contains(err.Error(), "lotse.yaml:") {
			t.Errorf("%s: %v (%s)", said, err, deploy.HintOf(err))
		}
	}
}
