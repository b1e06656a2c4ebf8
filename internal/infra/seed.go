package infra

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A template that is too long for a call is read by CloudFormation from the app's bucket, which the same template makes. So a stack of such
// a template is made of a seed first: the bucket and what it needs, as the template has them and by the same names. Then the stack is
// updated with the whole, which finds them as they are. A process that is killed in between leaves a stack that is only behind: the next
// Apply updates it like any other.

// bucketOutput is the output by which the stack names the bucket.
const bucketOutput = "Releases"

// seeds are the resources that a seed is made for; what they refer to comes along. The bucket answers nobody without TLS, from its first
// object on.
var seeds = []string{"Releases", "ReleasesPolicy"}

// wantsSeed reports whether a stack can only be made of a seed first.
func (s *session) wantsSeed(st *stack) (bool, error) {
	if st.there != nil || st.Name != StackName(s.app) {
		return false, nil
	}
	text, err := st.short()
	return len(text) > MaxTemplateBody, err
}

// short is the template as short as it needs be for a call: without comments where it is too long with them.
func (st *stack) short() (string, error) {
	if len(st.template) <= MaxTemplateBody {
		return st.template, nil
	}
	return Compact(st.template)
}

// compareSeedling says what would change without asking: a stack that is not there gets all that is written down. What a killed process has
// left of it, and nobody needs, goes.
func (s *session) compareSeedling(ctx context.Context, st *stack) error {
	st.changes = nil
	for _, name := range slices.Sorted(maps.Keys(st.written)) {
		st.changes = append(st.changes, Change{Action: "add", Resource: name, Kind: st.written[name].Kind})
	}
	if !st.shell {
		return nil
	}
	return s.discardShell(ctx, st)
}

// plant makes the stack of its seed, and compares what is there then with the whole template.
func (w *work) plant(ctx context.Context, st *stack) (err error) {
	if st.seed, err = seedOf(st.template); err != nil {
		return err
	}
	w.say(fmt.Sprintf("stack %s in %s: its template is too long for a call, so the bucket from which CloudFormation reads it comes first", st.Name, st.Region))
	if err := w.ask(ctx, st); err != nil {
		return err
	}
	if err := w.execute(ctx, st); err != nil {
		return err
	}
	st.seed = ""
	if err := w.look(ctx, st); err != nil {
		return err
	}
	if err := w.compare(ctx, st); err != nil {
		return err
	}
	return w.permitted(st)
}

// seedOf is the part of a template that makes the bucket, as JSON.
func seedOf(template string) (string, error) {
	value, err := read(template)
	if err != nil {
		return "", err
	}
	whole, _ := value.(map[string]any)
	all, _ := whole["Resources"].(map[string]any)
	outputs, _ := whole["Outputs"].(map[string]any)
	taken := map[string]any{}
	var take func(name string)
	take = func(name string) {
		if r, there := all[name]; there && taken[name] == nil {
			taken[name] = r
			references(r, take)
		}
	}
	for _, name := range seeds {
		take(name)
	}
	if taken[bucketOutput] == nil || outputs[bucketOutput] == nil {
		return "", fmt.Errorf("%w: the template makes no bucket %s, from which CloudFormation could read the rest", deploy.ErrBadInput, bucketOutput)
	}
	seed := map[string]any{"Resources": taken, "Outputs": map[string]any{bucketOutput: outputs[bucketOutput]}}
	for _, section := range []string{"AWSTemplateFormatVersion", "Description", "Rules"} {
		if whole[section] != nil {
			seed[section] = whole[section]
		}
	}
	return encode(seed)
}

// substituted are the names in a text that Fn::Sub fills.
var substituted = regexp.MustCompile(`\$\{([A-Za-z0-9]+)`)

// references calls see with every name of the template that a value refers to.
func references(value any, see func(name string)) {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			switch key {
			case "Ref", "DependsOn":
				for _, name := range texts(inner) {
					see(name)
				}
			case "Fn::GetAtt":
				if path := texts(inner); len(path) > 0 { // the rest is the attribute
					see(path[0])
				}
			case "Fn::Sub":
				for _, text := range texts(inner) {
					for _, found := range substituted.FindAllStringSubmatch(text, -1) {
						see(found[1])
					}
				}
			}
			references(inner, see)
		}
	case []any:
		for _, inner := range v {
			references(inner, see)
		}
	}
}

// texts are the texts of a value that is one, or a list.
func texts(value any) (all []string) {
	switch v := value.(type) {
	case string:
		return []string{v}
	case []string:
		return v
	case []any:
		for _, one := range v {
			if text, is := one.(string); is {
				all = append(all, text)
			}
		}
	}
	return all
}

// stage puts a template into the app's bucket, by its digest, and returns the address at which CloudFormation reads it.
func (s *session) stage(ctx context.Context, st *stack, bucket, text string) (*string, error) {
	home := awsOf(s.app).Region
	client, err := s.objects(ctx, home)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(text))
	key := "infra/" + hex.EncodeToString(sum[:]) + ".json"
	if _, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(text), ExpectedBucketOwner: &s.account}); err != nil {
		return nil, s.explain(ctx, err, "s3:PutObject", home)
	}
	st.object = &s3.DeleteObjectInput{Bucket: &bucket, Key: &key, ExpectedBucketOwner: &s.account}
	return aws.String("https://" + bucket + ".s3." + home + ".amazonaws.com/" + key), nil
}

// unstage takes it away again: by then CloudFormation has a copy.
func (s *session) unstage(ctx context.Context, st *stack) error {
	if st.object == nil {
		return nil
	}
	home := awsOf(s.app).Region
	client, err := s.objects(ctx, home)
	if err != nil {
		return err
	}
	if _, err := client.DeleteObject(ctx, st.object); err != nil {
		return s.explain(ctx, err, "s3:DeleteObject", home)
	}
	st.object = nil
	return nil
}

// objects is S3 in a region. An endpoint of one's own has no names for buckets.
func (s *session) objects(ctx context.Context, region string) (*s3.Client, error) {
	cfg, err := s.config(ctx, region)
	if err != nil {
		return nil, err
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = cfg.BaseEndpoint != nil }), nil
}
