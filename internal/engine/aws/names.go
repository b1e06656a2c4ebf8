package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// What Elastic Beanstalk takes as names (API reference: CreateEnvironment, CreateApplicationVersion).
const (
	environmentName = 40
	versionLabel    = 100
	cnamePrefix     = 63
	rolloutDigits   = 10
)

func digits(s string, n int) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:n]
}

// short is s where it has at most so many bytes; else its beginning and what makes it its own.
func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	const own = 6
	return strings.TrimRight(s[:most-own-1], "-") + "-" + digits(s, own)
}

// stem is what the names of all environments of a stage begin with.
func (e *Engine) stem() string {
	return short(e.App+"-"+e.Stage.Name, environmentName-rolloutDigits-1)
}

func (e *Engine) environmentName(rollout string) string {
	return e.stem() + "-" + digits(e.key()+"/"+rollout, rolloutDigits)
}

// parkingName is the environment that keeps the stage's name while no rollout has it.
func (e *Engine) parkingName() string { return e.stem() + "-parking" }

// prefix is the stage's own in the names of Elastic Beanstalk, where each environment has a balancer of its own.
func (e *Engine) prefix() string { return short(e.App+"-"+e.Stage.Name, cnamePrefix) }

func (e *Engine) versionLabel(rollout string) string {
	return short(e.Stage.Name+"-"+rollout, versionLabel)
}

// secretName is where the engine keeps a value of its own for the stage, beside those that people set.
func (e *Engine) secretName(name string) string {
	return "lotse/" + e.App + "/" + e.Stage.Name + "/engine/" + name
}

// logGroup is where the platform streams what an environment's front prints (docs.aws.amazon.com/elasticbeanstalk, "Using Elastic
// Beanstalk with Amazon CloudWatch Logs").
func logGroup(environment string) string {
	return "/aws/elasticbeanstalk/" + environment + "/var/log/web.stdout.log"
}

// camel is a stage's name as the outputs of the stack spell it: pre-prod is PreProd.
func camel(stage string) string {
	var out strings.Builder
	for part := range strings.SplitSeq(stage, "-") {
		if part != "" {
			out.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return out.String()
}

// The tags of what the engine makes.
const (
	tagApp      = "lotse:app"
	tagStage    = "lotse:stage"
	tagRelease  = "lotse:release"
	tagSource   = "lotse:source" // what people know the release by
	tagRollout  = "lotse:rollout"
	tagServices = "lotse:services"
	tagKind     = "lotse:kind" // of a rule: stage or reach; of an environment: parking, or none
)

// labels are the tags of one thing on the platform.
type labels map[string]string

// labels of a rollout; kind is empty for its environment.
func (e *Engine) labelsOf(o deploy.Order) labels {
	return labels{tagApp: e.App, tagStage: e.Stage.Name, tagRollout: o.Rollout, tagRelease: string(o.Release.ID),
		tagSource: string(o.Release.Source()), tagServices: serviceTag(o.Release.Manifest.Services)}
}

// tagMost is what the value of a tag may have (AWS, "Tag naming limits").
const tagMost = 256

// serviceTag says which services a rollout has, so that it can be listed before anything of it answers: "web=2 site=0". Static
// ones have 0.
func serviceTag(services []deploy.Service) string {
	var all []string
	for _, s := range services {
		n := 0
		if s.Command != "" {
			n = max(s.Instances, 1)
		}
		all = append(all, s.Name+"="+strconv.Itoa(n))
	}
	tag := strings.Join(all, " ")
	for len(tag) > tagMost {
		tag = tag[:strings.LastIndex(tag, " ")]
	}
	return tag
}

// services is the inverse of serviceTag: what there ought to be, nothing of it well.
func (l labels) services(note string) []deploy.RunningService {
	var all []deploy.RunningService
	for one := range strings.FieldsSeq(l[tagServices]) {
		name, count, _ := strings.Cut(one, "=")
		n, _ := strconv.Atoi(count)
		s := deploy.RunningService{Name: name}
		for i := range n {
			s.Instances = append(s.Instances, deploy.RunningInstance{Number: i, Note: note})
		}
		all = append(all, s)
	}
	return all
}

// first is the first service with a program: what is named where nobody says which one it is.
func (l labels) first() string {
	for _, s := range l.services("") {
		if len(s.Instances) > 0 {
			return s.Name
		}
	}
	return ""
}

func (l labels) ours(e *Engine) bool { return l[tagApp] == e.App && l[tagStage] == e.Stage.Name }

// label is what the header Lotse-Release says of a rollout.
func (l labels) label() string {
	if l[tagSource] != "" {
		return deploy.Digest(l[tagSource]).Short()
	}
	return deploy.Digest(l[tagRelease]).Short()
}

// Carries reports whether environments carry a release with these services: any has a program. Where all are files, a bucket does.
func Carries(services []deploy.Service) bool { return len(commands(services)) > 0 }

// machines is how many instances of EC2 a release gets: each runs one copy of every service, so that there are exactly as many copies
// as the file says. Services that want different numbers cannot be had.
func machines(services []deploy.Service) (int, error) {
	count, first := 0, ""
	for _, s := range commands(services) {
		n := max(s.Instances, 1)
		if count != 0 && n != count {
			return 0, deploy.Hint(fmt.Errorf("%w: %s has %d instances and %s %d; on AWS every machine runs one of each", deploy.ErrUnsupported, first, count, s.Name, n),
				"give all services the same number of instances in lotse.yaml")
		}
		count, first = n, s.Name
	}
	return max(count, 1), nil
}

// variablesMost is what all plain variables of an environment may have together.
const variablesMost = deploy.VariablesOnAWS

// fits says early, and in words, what Elastic Beanstalk would refuse late: variables that are too long together, names that it does
// not take. Secrets are references and count with those.
func fits(settings []deploy.Setting) error {
	sum, largest, size := 0, "", 0
	for _, s := range settings {
		if s.Reference != "" && !secretName.MatchString(s.Name) {
			return deploy.Hint(fmt.Errorf("%w: Elastic Beanstalk takes no secret with the name %s", deploy.ErrBadInput, s.Name),
				"a secret's name has capital letters, digits and _ alone, and begins with a letter or _")
		}
		if !variableName(s.Name) {
			return deploy.Hint(fmt.Errorf("%w: Elastic Beanstalk takes no variable with the name %s", deploy.ErrBadInput, s.Name),
				"it takes up to 128 letters, digits and any of _ . : / + \\ - @")
		}
		value := s.Value.Reveal()
		if s.Reference != "" {
			value = s.Reference
		}
		n := len(s.Name) + 1 + len(value)
		if sum += n; n > size {
			largest, size = s.Name, n
		}
	}
	if sum > variablesMost {
		return deploy.Hint(fmt.Errorf("%w: the variables have %d bytes together, and Elastic Beanstalk takes %d; the largest is %s with %d",
			deploy.ErrBadInput, sum, variablesMost, largest, size), "make it a secret: `lotse secrets set "+largest+"`; of a secret only its reference counts")
	}
	return nil
}

// secretName is what Elastic Beanstalk takes as the name of a variable whose value is a reference ("Environment secrets").
var secretName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// variableName reports whether Elastic Beanstalk takes the name ("Environment properties").
func variableName(name string) bool {
	for _, r := range name {
		if (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune(`_.:/+\-@`, r) {
			return false
		}
	}
	return name != "" && len(name) <= 128
}

func sorted(l labels) []string { return slices.Sorted(maps.Keys(l)) }
