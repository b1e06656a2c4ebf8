package infra

import (
	"fmt"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// CodePipeline writes a stack of CloudFormation with a pipeline that does the same as GitHubActions, and the buildspecs that it runs, which are to
// be committed at the root of the repository. The stack needs the capability CAPABILITY_NAMED_IAM, and that of the app must be there.
func CodePipeline(app deploy.App, o Options) ([]File, error) {
	c, err := ciOf(app, o)
	if err != nil {
		return nil, err
	}
	if c.Tag != "" && c.ByBranch() {
		return nil, deploy.Hint(fmt.Errorf("%w: a tag starts a later stage, and a pipeline of CodePipeline is started by pushes or by tags, not by both", deploy.ErrUnsupported),
			"`lotse infra render github-actions`; or on: tag at the first stage")
	}
	names := []string{"pipeline.yaml"}
	for _, project := range c.Projects {
		names = append(names, "buildspec-"+strings.ToLower(project)+".yml")
	}
	var files []File
	for _, name := range names {
		content, err := c.write(name)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: "codepipeline/" + name, Content: content})
	}
	return files, nil
}
