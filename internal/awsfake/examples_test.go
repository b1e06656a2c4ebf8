package awsfake_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	"github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
)

const tomcat = "64bit Amazon Linux 2015.03 v2.0.0 running Tomcat 8 Java 8"

// node of an XML answer.
type element struct {
	text     string
	children map[string][]*element
}

func readXML(t *testing.T, r io.Reader) *element {
	t.Helper()
	root := &element{children: map[string][]*element{}}
	stack := []*element{root}
	decoder := xml.NewDecoder(r)
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return root
		}
		if err != nil {
			t.Fatal(err)
		}
		top := stack[len(stack)-1]
		switch token := token.(type) {
		case xml.StartElement:
			child := &element{children: map[string][]*element{}}
			top.children[token.Name.Local] = append(top.children[token.Name.Local], child)
			stack = append(stack, child)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.text += string(token)
		}
	}
}

// flatten writes an example's input as the query protocol has it; a client of our own, beside the SDK's.
func flatten(prefix string, value any, into url.Values) {
	switch value := value.(type) {
	case map[string]any:
		for key, member := range value {
			flatten(strings.TrimPrefix(prefix+"."+key, "."), member, into)
		}
	case []any:
		for i, member := range value {
			flatten(fmt.Sprintf("%s.member.%d", prefix, i+1), member, into)
		}
	default:
		into.Set(prefix, fmt.Sprint(value))
	}
}

func ask(t *testing.T, w *awsfake.World, action string, input any) (*element, int) {
	t.Helper()
	form := url.Values{"Action": {action}, "Version": {"2010-12-01"}}
	flatten("", input, form)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.Endpoint(), strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDFAKE/20261123/eu-central-1/elasticbeanstalk/aws4_request, SignedHeaders=host, Signature=0")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := (&http.Client{Timeout: 30 * time.Second}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return readXML(t, answer.Body), answer.StatusCode
}

// notGiven are members that examples have and the fake leaves out, with the reason.
var notGiven = map[string]string{
	"LaunchConfigurations[]": "new environments have launch templates",
	"MaxValue":               "limits of options are not modelled",
	"MinValue":               "limits of options are not modelled",
	"P10":                    "requests are not counted", "P50": "", "P75": "", "P85": "", "P90": "", "P95": "", "P99": "", "P999": "",
	"IOWait": "one figure is enough", "IRQ": "", "Nice": "", "SoftIRQ": "", "System.CPUUtilization.System": "",
	"Events[].RequestId": "not every event has one",
}

// sameShape asks that an answer has every member that the example has.
func sameShape(path string, example any, got *element) (missing []string) {
	switch example := example.(type) {
	case map[string]any:
		for key, member := range example {
			found := got.children[key]
			if len(found) == 0 {
				missing = append(missing, path+"."+key)
				continue
			}
			missing = append(missing, sameShape(path+"."+key, member, found[0])...)
		}
	case []any:
		members := got.children["member"]
		if len(example) > 0 && len(members) == 0 {
			return []string{path + "[]"}
		}
		if len(example) > 0 {
			return sameShape(path+"[]", example[0], members[0])
		}
	case string:
		if strings.HasPrefix(example, "20") && strings.HasSuffix(example, "Z") && !strings.HasSuffix(strings.TrimSpace(got.text), "Z") {
			return []string{path + " is no time: " + got.text}
		}
	}
	return missing
}

func excused(missing string) bool {
	for suffix := range notGiven {
		if strings.HasSuffix(missing, suffix) {
			return true
		}
	}
	return false
}

// exampleWorld has what the examples speak of: an application with versions and a template, and environments that are Ready.
func exampleWorld(t *testing.T, action string) (*awsfake.World, string) {
	w := awsfake.Open(t, awsfake.Options{NoBundles: true, Stacks: []string{tomcat}})
	if action == "CreateApplication" {
		return w, ""
	}
	c := eb.NewFromConfig(w.Config(""))
	must := func(_ any, err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.CreateApplication(t.Context(), &eb.CreateApplicationInput{ApplicationName: aws.String("my-app"), Description: aws.String("an app")}))
	for _, label := range []string{"v1", "v2", "22a0-stage-150819_182129", "22a0-stage-150819_185942"} {
		if label == "v1" && action == "CreateApplicationVersion" {
			continue
		}
		must(c.CreateApplicationVersion(t.Context(), &eb.CreateApplicationVersionInput{ApplicationName: aws.String("my-app"), VersionLabel: &label, Description: aws.String("a version")}))
	}
	must(c.CreateConfigurationTemplate(t.Context(), &eb.CreateConfigurationTemplateInput{ApplicationName: aws.String("my-app"), TemplateName: aws.String("my-template"), SolutionStackName: aws.String(tomcat)}))
	if action == "CreateEnvironment" || action == "DeleteApplication" || action == "CreateApplicationVersion" {
		return w, ""
	}
	id := ""
	for _, name := range []string{"my-env", "my-env-blue", "my-env-green"} {
		out, err := c.CreateEnvironment(t.Context(), &eb.CreateEnvironmentInput{ApplicationName: aws.String("my-app"), EnvironmentName: &name, Description: aws.String("an environment"), SolutionStackName: aws.String(tomcat), VersionLabel: aws.String("v1"),
			OptionSettings: []types.ConfigurationOptionSetting{{Namespace: aws.String("aws:elasticbeanstalk:environment"), OptionName: aws.String("LoadBalancerType"), Value: aws.String("application")}}})
		must(out, err)
		await(t, c, *out.EnvironmentId, types.EnvironmentStatusReady)
		if name == "my-env" {
			id = *out.EnvironmentId
		}
	}
	switch action {
	case "AbortEnvironmentUpdate":
		w.Trouble(awsfake.Trouble{Environment: "my-env", Slower: 1e9})
		must(c.UpdateEnvironment(t.Context(), &eb.UpdateEnvironmentInput{EnvironmentId: &id, VersionLabel: aws.String("v2")}))
	case "RetrieveEnvironmentInfo":
		must(c.RequestEnvironmentInfo(t.Context(), &eb.RequestEnvironmentInfoInput{EnvironmentId: &id, InfoType: types.EnvironmentInfoTypeTail}))
	}
	return w, id
}

// The documentation's examples, as botocore carries them, are all taken, and the answers have the shapes of theirs.
func TestOfficialExamplesReplay(t *testing.T) {
	var all struct {
		Examples map[string][]struct {
			ID            string
			Input, Output map[string]any
		}
	}
	if err := json.Unmarshal(awsfake.OfficialFile(t, "elasticbeanstalk", "examples-1.json"), &all); err != nil {
		t.Fatal(err)
	}
	replayed := 0
	for action, examples := range all.Examples {
		for _, example := range examples {
			replayed++
			t.Run(action, func(t *testing.T) {
				w, id := exampleWorld(t, action)
				if example.Input["EnvironmentId"] != nil {
					example.Input["EnvironmentId"] = id
				}
				answer, status := ask(t, w, action, example.Input)
				if status != http.StatusOK {
					t.Fatalf("refused with %d: %+v", status, answer.children["ErrorResponse"][0].children["Error"][0].children["Message"][0].text)
				}
				response := answer.children[action+"Response"]
				if len(response) != 1 || len(response[0].children["ResponseMetadata"]) != 1 {
					t.Fatalf("the answer is no %sResponse", action)
				}
				if example.Output == nil {
					return
				}
				for _, missing := range sameShape(action, example.Output, response[0].children[action+"Result"][0]) {
					if !excused(missing) {
						t.Errorf("the answer has no %s", missing)
					}
				}
			})
		}
	}
	t.Logf("%d official examples replayed", replayed)
	if replayed < 33 {
		t.Errorf("there were 33 examples, now %d", replayed)
	}
}
