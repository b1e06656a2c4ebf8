package deploy_test

import (
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// What cannot be had on AWS is said by `lotse check`, with what to do; Facts say the same at the rollout.
func TestStrategiesOnAWS(t *testing.T) {
	for _, c := range []struct {
		strategy deploy.Strategy
		aws      deploy.AWS
		says     string // empty: nothing is wrong
	}{
		{deploy.Canary, deploy.AWS{Region: "eu-central-1", Balancer: deploy.AWSShared}, ""},
		{deploy.Canary, deploy.AWS{Region: "eu-central-1", Balancer: deploy.AWSOwn}, "DNS gives all requests to one release"},
		{deploy.Canary, deploy.AWS{Region: "eu-central-1", Balancer: deploy.AWSShared, Static: true}, "CloudFront gives everybody the same files"},
		{deploy.Recreate, deploy.AWS{Region: "eu-central-1", Balancer: deploy.AWSShared}, "nothing would answer meanwhile"},
		{deploy.BlueGreen, deploy.AWS{Region: "eu-central-1", Balancer: deploy.AWSOwn}, ""},
	} {
		var found []string
		for _, p := range (deploy.App{Name: "shop", Stages: []deploy.Stage{{Name: "prod", Strategy: c.strategy, AWS: c.aws}}}).Problems() {
			if strings.HasPrefix(p.Message, "stages.prod.strategy ") {
				found = append(found, p.Message)
			}
		}
		if told := strings.Join(found, "\n"); (c.says == "") != (told == "") || !strings.Contains(told, c.says) {
			t.Errorf("%s with %+v: %q, want %q in it", c.strategy, c.aws, told, c.says)
		}
	}
}
