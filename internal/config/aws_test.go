package config_test

import (
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/config"
)

// What AWS would refuse late is found in the file, all of it at once, each where it stands.
func TestProblemsOnAWSHaveTheirPlaces(t *testing.T) {
	_, err := config.Read("lotse.yaml", []byte(`app: shop
services: { site: { static: web } }
volumes: { uploads: }
database: { postgres: 99 }
aws:
  region: eu-frankfurt-1
  budget: 0
  outside_eu: x
stages:
  dev: { engine: AWS, url: https://dev.shop.eu }
  prod: { engine: aws, url: https://www.shop.eu }
`))
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, want := range []string{
		"6:11: aws.region must be a region of AWS", "7:11: aws.budget must be 1 or more", "8:15: aws.outside_eu must say what makes the region lawful",
		"10:18: stages.dev.engine must be the name of an engine", "3:12: volumes.uploads has no machine", "4:23: database.postgres has no program that could ask it",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said:\n%v", want, err)
		}
	}
}
