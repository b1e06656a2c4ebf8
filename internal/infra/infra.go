// Package infra writes the plan down for others: what the stages of an app need around them on AWS, as files that a person would have
// written and can take over. It asks nobody and changes nothing; the same app gives the same bytes.
//
// The files are text templates (templates/), one for each section, filled from one description of what there is (plan.go). Only policies
// are tables in Go (policy.go), because the two writers and the tests need the same ones.
//
// Environments of Elastic Beanstalk are in no template: the engine makes one for each rollout, and a swap of their names would be a drift.
//
// None of this was tried on AWS. It is checked by cfn-lint, by Terraform with the provider's schema and a mock of it, and by rules of our
// own over what is written.
package infra

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// File is one file of what is written down. Name is slash-separated and relative.
type File struct {
	Name    string
	Content string
}

// Options is what the app does not say of itself.
type Options struct {
	Machine string // GOARCH of the machine that builds, which the instances must be like: amd64 or arm64; empty: amd64
	Version string // of Lotse that CI installs, such as v1.2.3; another, also empty: the latest
}

// EdgeRegion is the one region besides the app's own: CloudFront takes certificates from there alone, and is steered from there.
const EdgeRegion = "us-east-1"

// MaxTemplateBody is how many bytes of a template CloudFormation takes in a call; a longer one is read from S3, up to MaxTemplate (AWS
// CloudFormation quotas, docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html).
const (
	MaxTemplateBody = 51_200
	MaxTemplate     = 1_000_000
)

// StackName is the stack of an app, in the app's region.
func StackName(app deploy.App) string { return "lotse-" + app.Name }

// Stack is one stack of CloudFormation, in the order in which they are made.
type Stack struct {
	Name       string
	Region     string
	File       string      // of Cloudformation
	Parameters []Parameter // whose values it must be given
}

// Parameter is a parameter of a stack, and where its value is found.
type Parameter struct {
	Name string

	// Exactly one of these says where from.
	Zone   string // the id of the hosted zone in Route 53 of this name
	Stack  string // an output of this stack, which is made before
	Output string
	Person bool // a person may say it; it has a default
}

// Stacks are the stacks of an app, in the order in which they are made. It is nil for an app without a stage on AWS. All of them need the
// capability CAPABILITY_NAMED_IAM, and should have termination protection and the tag lotse:app.
func Stacks(app deploy.App) []Stack {
	p, err := planOf(app, Options{})
	if err != nil {
		return nil
	}
	var zone []Parameter
	if p.AWS.Zone != "" {
		zone = []Parameter{{Name: "ZoneId", Zone: p.AWS.Zone}}
	}
	main := Stack{Name: p.StackName, Region: p.AWS.Region, File: "cloudformation.yaml", Parameters: slices.Clone(zone)}
	if p.Static {
		main.Parameters = append(main.Parameters, Parameter{Name: "Certificate", Stack: p.EdgeName, Output: "Certificate"})
	}
	if p.AWS.Repository != "" {
		main.Parameters = append(main.Parameters, Parameter{Name: "GithubProvider", Person: true})
	}
	if !p.Static {
		return []Stack{main}
	}
	logs := Stack{Name: p.EdgeLogsName, Region: EdgeRegion, File: "cloudformation-edge-logs.yaml"}
	for _, s := range p.Stages {
		logs.Parameters = append(logs.Parameters, Parameter{Name: s.Camel + "Distribution", Stack: p.StackName, Output: s.Camel + "Distribution"})
	}
	return []Stack{{Name: p.EdgeName, Region: EdgeRegion, File: "cloudformation-edge.yaml", Parameters: zone}, main, logs}
}

// Cloudformation writes a template for each of Stacks, in their order.
func Cloudformation(app deploy.App, o Options) ([]File, error) {
	p, err := planOf(app, o)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, s := range Stacks(app) {
		content, err := p.write(templatesOf(s.File)...)
		if err != nil {
			return nil, err
		}
		if len(content) > MaxTemplate {
			return nil, deploy.Hint(fmt.Errorf("%w: the template has %d bytes, and CloudFormation takes %d", deploy.ErrUnsupported, len(content), MaxTemplate),
				"give some of the stages another app")
		}
		files = append(files, File{Name: s.File, Content: content})
	}
	return files, nil
}

// Terraform writes the same as a root module of Terraform, with a stack of CloudFormation that holds nothing but the outputs: the engine
// finds everything there, whoever made it.
func Terraform(app deploy.App, o Options) ([]File, error) {
	p, err := planOf(app, o)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, f := range terraformFiles() {
		if !f.when(p) {
			continue
		}
		content, err := p.write("terraform/" + f.name)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: "terraform/" + f.name, Content: content})
	}
	for _, s := range p.Stages {
		if p.Static {
			files = append(files, File{Name: "terraform/pages-" + s.Name + ".js", Content: s.PagesFunction})
		}
	}
	return files, nil
}

// Outputs are the outputs of the app's stack in the app's region, by which the engine finds everything. What an app does not have is not
// among them: an app of files alone has no network, one with its own balancers none of the stack's.
func Outputs(app deploy.App) []string {
	p, err := planOf(app, Options{})
	if err != nil {
		return nil
	}
	var names []string
	for _, o := range p.Outputs {
		names = append(names, o.Name)
	}
	return names
}

// camel is how a stage is called in names of CloudFormation: pre-prod is PreProd.
func camel(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "-") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}
