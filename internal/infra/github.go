package infra

import "github.com/lotse-eu/lotse/internal/deploy"

// GitHubActions writes a workflow that deploys every push on the first stage's branch, and promotes to each further stage when its environment on
// GitHub lets it. It calls Lotse with the shared history (`lotse serve --shared`). Every stage must have the engine aws.
func GitHubActions(app deploy.App, o Options) ([]File, error) {
	c, err := ciOf(app, o)
	if err != nil {
		return nil, err
	}
	workflow, err := c.write("lotse.yml")
	if err != nil {
		return nil, err
	}
	return []File{{Name: ".github/workflows/lotse.yml", Content: workflow}}, nil
}
