package infra

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Cloud is the account of AWS in which Plan looks and Apply works, by stacks of CloudFormation. Its methods keep nothing in it.
//
// What they tell an error by: ErrMissing for credentials that there are not; ErrBadInput for those of another account or region; ErrRefused for a
// missing permission (the hint has the statement that grants it), a stack that is not ours, and data that would be lost; ErrBusy while
// somebody else's operation is at work; ErrUnavailable for what another attempt may get over: throttling, expired credentials, a lost
// network. After any of them, and after a cancel, a second Apply goes on where the first one ended.
type Cloud struct {
	// Config finds credentials, for calls in region.
	Config func(ctx context.Context, region string) (aws.Config, error)

	Machine string        // as in Options
	Look    time.Duration // until the first look at what is at work; later ones are up to 30 times as far apart. 0: 300 ms
	Now     func() time.Time
}

// Report is what an Apply would do, or has left.
type Report struct{ Stacks []StackReport }

// StackReport is about one stack.
type StackReport struct {
	Name, Region, Account string
	State                 string // a sentence without its subject: "is not there yet", "is as it is written down", "differs"
	Changes               []Change
	Drift                 []Drift
}

// Change is what becomes of one resource.
type Change struct {
	Action   string // add, change, replace, remove
	Resource string // as the template calls it
	Kind     string // AWS::RDS::DBInstance
	Why      string
	Loses    bool // its data is lost, or may be: refused without a named yes
}

// Drift is what was changed behind the template's back.
type Drift struct{ Resource, Says string }

// How a stack is, in words.
const (
	notThere = "is not there yet"
	asIs     = "is as it is written down"
	differs  = "differs from what is written down"
)

// attempts is how often a call is made: with the SDK's back-off (up to 20 s between two), some minutes of throttling or of a lost network.
const attempts = 10

// session is one Plan or Apply.
type session struct {
	Cloud
	app     deploy.App
	who     string // of the credentials, without what may be a person's name at a mail host
	account string
	configs map[string]aws.Config
	stacks  []*stack
}

// stack is one of Stacks, as it is written down and as it is.
type stack struct {
	Stack
	template string // as it is sent
	api      *cloudformation.Client

	there   *types.Stack // nil: not there; REVIEW_IN_PROGRESS counts as not there
	shell   bool         // there is one in REVIEW_IN_PROGRESS
	before  outline      // of the template that it was made of
	written outline
	given   []types.Parameter
	open    bool // a parameter's value is not known before another stack is made

	seedling bool                  // it is not there, and is to be made of a seed first
	seed     string                // the template while that is done
	object   *s3.DeleteObjectInput // of the template in the bucket, while it is there
	set      *changeSet
	changes  []Change
}

func (c Cloud) open(ctx context.Context, app deploy.App) (*session, error) {
	files, err := Cloudformation(app, Options{Machine: c.Machine})
	if err != nil {
		return nil, err
	}
	if c.Look <= 0 {
		c.Look = 300 * time.Millisecond
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &session{Cloud: c, app: app, configs: map[string]aws.Config{}}
	for i, written := range Stacks(app) {
		st := &stack{Stack: written, template: files[i].Content}
		if st.written, err = outlineOf(files[i].Content); err != nil {
			return nil, err
		}
		s.stacks = append(s.stacks, st)
	}
	home := awsOf(app)
	if err := s.identify(ctx, home); err != nil {
		return nil, err
	}
	for _, st := range s.stacks {
		cfg, err := s.config(ctx, st.Region)
		if err != nil {
			return nil, err
		}
		st.api = cloudformation.NewFromConfig(cfg)
	}
	return s, nil
}

func awsOf(app deploy.App) deploy.AWS {
	i := slices.IndexFunc(app.Stages, func(s deploy.Stage) bool { return s.Engine == "aws" })
	return app.Stages[i].AWS // Cloudformation has refused an app without one
}

// config is what calls in region are made with.
func (s *session) config(ctx context.Context, region string) (aws.Config, error) {
	if cfg, known := s.configs[region]; known {
		return cfg, nil
	}
	cfg, err := s.Config(ctx, region)
	if err != nil {
		return aws.Config{}, err
	}
	retryer := cfg.Retryer
	cfg.Retryer = func() aws.Retryer {
		if retryer == nil {
			return retry.AddWithMaxAttempts(retry.NewStandard(), attempts)
		}
		return retry.AddWithMaxAttempts(retryer(), attempts)
	}
	s.configs[region] = cfg
	return cfg, nil
}

// identify asks who the credentials are of, and whether that is the account of lotse.yaml.
func (s *session) identify(ctx context.Context, home deploy.AWS) error {
	cfg, err := s.config(ctx, home.Region)
	if err != nil {
		return err
	}
	if cfg.Credentials == nil {
		return noCredentials()
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if strings.Contains(err.Error(), "expired") {
			return expired()
		}
		return noCredentials()
	}
	me, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return s.explain(ctx, err, "sts:GetCallerIdentity", home.Region)
	}
	s.account, s.who = aws.ToString(me.Account), principal(aws.ToString(me.Arn))
	if home.Account != "" && home.Account != s.account {
		return deploy.Hint(fmt.Errorf("%w: the credentials are of account %s, and aws.account of lotse.yaml says %s", deploy.ErrBadInput, s.account, home.Account),
			"take the credentials of the other account, for example by AWS_PROFILE")
	}
	return nil
}

func noCredentials() error {
	return deploy.Hint(fmt.Errorf("%w: there are no credentials for AWS", deploy.ErrMissing),
		"log in with `aws sso login`, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}

// principal is user/anna or role/Deployer of an ARN. The name of a role's session is left out, and so is the host of a mail address: both
// are of people.
func principal(arn string) string {
	_, rest, _ := strings.Cut(strings.TrimPrefix(arn, "arn:aws:"), "::")
	_, rest, _ = strings.Cut(rest, ":")
	parts := strings.Split(rest, "/")
	if parts[0] == "assumed-role" && len(parts) > 1 {
		parts = []string{"role", parts[1]}
	}
	name, _, _ := strings.Cut(parts[len(parts)-1], "@")
	if len(parts) == 1 {
		return name // root
	}
	return parts[0] + "/" + name
}

// fill finds the values of a stack's parameters. What another stack will give stands open until that is made.
func (s *session) fill(ctx context.Context, st *stack) error {
	st.given, st.open = nil, false
	for _, p := range st.Parameters {
		var value string
		var err error
		known := true
		switch {
		case p.Person:
			if st.has(p.Name) {
				st.given = append(st.given, types.Parameter{ParameterKey: aws.String(p.Name), UsePreviousValue: aws.Bool(true)})
			}
			continue
		case p.Zone != "":
			value, err = s.zone(ctx, p.Zone, st.Region)
		default:
			value, known = s.output(p.Stack, p.Output)
		}
		if err != nil {
			return err
		}
		if !known {
			value, st.open = s.standIn(p), true
		}
		st.given = append(st.given, types.Parameter{ParameterKey: aws.String(p.Name), ParameterValue: aws.String(value)})
	}
	return nil
}

// has reports whether the stack was made with a parameter.
func (st *stack) has(parameter string) bool {
	return st.there != nil && slices.ContainsFunc(st.there.Parameters, func(p types.Parameter) bool { return aws.ToString(p.ParameterKey) == parameter })
}

// standIn has the form of a value that is not known yet, so that CloudFormation can compare.
func (s *session) standIn(p Parameter) string {
	if strings.HasSuffix(p.Output, "Certificate") {
		return "arn:aws:acm:" + EdgeRegion + ":" + s.account + ":certificate/00000000-0000-0000-0000-000000000000"
	}
	return "not-made-yet"
}

// output is what a stack of the app gives.
func (s *session) output(stackName, name string) (string, bool) {
	for _, st := range s.stacks {
		if st.Name != stackName || st.there == nil {
			continue
		}
		for _, o := range st.there.Outputs {
			if aws.ToString(o.OutputKey) == name {
				return aws.ToString(o.OutputValue), true
			}
		}
	}
	return "", false
}

// zone is the id of a public hosted zone.
func (s *session) zone(ctx context.Context, name, region string) (string, error) {
	cfg, err := s.config(ctx, region)
	if err != nil {
		return "", err
	}
	found, err := route53.NewFromConfig(cfg).ListHostedZonesByName(ctx, &route53.ListHostedZonesByNameInput{DNSName: aws.String(name)})
	if err != nil {
		return "", s.explain(ctx, err, "route53:ListHostedZonesByName", region)
	}
	for _, z := range found.HostedZones {
		if strings.TrimSuffix(aws.ToString(z.Name), ".") == name && (z.Config == nil || !z.Config.PrivateZone) {
			return strings.TrimPrefix(aws.ToString(z.Id), "/hostedzone/"), nil
		}
	}
	return "", deploy.Hint(fmt.Errorf("%w: account %s has no public hosted zone %s", deploy.ErrBadInput, s.account, name),
		"make it (aws route53 create-hosted-zone --name "+name+" --caller-reference lotse) and have the registrar point at its name servers, or take aws.zone out of lotse.yaml and make the records yourself")
}
