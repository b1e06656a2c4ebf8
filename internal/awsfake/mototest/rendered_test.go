package mototest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/smithy-go/transport/http/protocol/awsquery"

	"github.com/lotse-eu/lotse/internal/awsfake/mototest"
	"github.com/lotse-eu/lotse/internal/config"
	engine "github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/infra"
)

// resource is one of the rendered template.
type resource struct {
	Type       string
	Properties map[string]any
}

// rendered are the resources of the template; what only a stack knows (references) is "x".
func rendered(t *testing.T) map[string]resource {
	t.Helper()
	app, err := config.Read("lotse.yaml", []byte(policed))
	if err != nil {
		t.Fatal(err)
	}
	files, err := infra.Cloudformation(app, infra.Options{})
	if err != nil {
		t.Fatal(err)
	}
	template, err := infra.Compact(files[0].Content)
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Resources map[string]resource }
	if err := json.Unmarshal([]byte(template), &all); err != nil {
		t.Fatal(err)
	}
	for _, r := range all.Resources {
		for name, value := range r.Properties {
			r.Properties[name] = known(value)
		}
	}
	return all.Resources
}

func known(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name := range v {
			if name == "Ref" || strings.HasPrefix(name, "Fn::") {
				return "x"
			}
			v[name] = known(v[name])
		}
	case []any:
		for i := range v {
			v[i] = known(v[i])
		}
	}
	return value
}

// filled fills an input of the SDK, which is made of AWS's own model: a property that the API does not have is an error. Numbers that a
// template may write as text become numbers.
func filled(t *testing.T, properties map[string]any, numbers string, into any) {
	t.Helper()
	for name := range strings.FieldsSeq(numbers) {
		if text, is := properties[name].(string); is {
			properties[name] = json.Number(text)
		}
	}
	raw, err := json.Marshal(properties)
	if err != nil {
		t.Fatal(err)
	}
	strict := json.NewDecoder(bytes.NewReader(raw))
	strict.DisallowUnknownFields()
	if err := strict.Decode(into); err != nil {
		t.Errorf("%T: %v", into, err)
	}
}

// What the template asks for is made by calls of its own, as far as moto has the service: databases with their parameters, alarms, the log
// of what is counted.
func TestRenderedOnMoto(t *testing.T) {
	cfg := mototest.Start(t, region, "no database, alarm or log line of ours was taken by an RDS, CloudWatch and CloudWatch Logs that others wrote")
	resources := rendered(t)
	t.Run("database", func(t *testing.T) { databaseIsTaken(t, cfg, resources) })
	t.Run("alarms", func(t *testing.T) { alarmsAreTaken(t, cfg, resources) })
	t.Run("samples", func(t *testing.T) { samplesAreTaken(t, cfg) })
}

func databaseIsTaken(t *testing.T, cfg aws.Config, resources map[string]resource) {
	client, ctx := rds.NewFromConfig(cfg), t.Context()
	group := resources["ProdDatabaseParameters"].Properties
	parameters := group["Parameters"].(map[string]any)
	if _, err := client.CreateDBParameterGroup(ctx, &rds.CreateDBParameterGroupInput{DBParameterGroupName: aws.String("x"), DBParameterGroupFamily: aws.String(fmt.Sprint(group["Family"])),
		Description: aws.String(fmt.Sprint(group["Description"]))}); err != nil || parameters["rds.force_ssl"] != "1" {
		t.Errorf("parameters: %v, %v", parameters, err)
	}
	p := resources["ProdDatabase"].Properties
	// A template says these otherwise than the call: by another name, or for a later call; subnets and groups are not moto's.
	for _, name := range []string{"VPCSecurityGroups", "DBSubnetGroupName", "DeleteAutomatedBackups", "AllowMajorVersionUpgrade", "KmsKeyId"} {
		delete(p, name)
	}
	in := rds.CreateDBInstanceInput{DBInstanceIdentifier: aws.String("rendered")}
	filled(t, p, "AllocatedStorage MaxAllocatedStorage BackupRetentionPeriod", &in)
	in.MasterUserPassword = aws.String("0123456789abcdef")
	made, err := client.CreateDBInstance(ctx, &in)
	if err != nil {
		t.Fatal(err)
	}
	if d := made.DBInstance; !*d.StorageEncrypted || !*d.DeletionProtection || *d.PubliclyAccessible || *d.BackupRetentionPeriod != 7 || *d.MasterUsername != "lotse" || *d.DBName != "app" {
		t.Errorf("it is open, not encrypted, not protected or not kept: %+v", d)
	}
	if _, err := client.DeleteDBInstance(ctx, &rds.DeleteDBInstanceInput{DBInstanceIdentifier: aws.String("rendered"), SkipFinalSnapshot: aws.Bool(true)}); err == nil || !strings.Contains(err.Error(), "protect") {
		t.Errorf("it could be deleted: %v", err)
	}
}

func alarmsAreTaken(t *testing.T, cfg aws.Config, resources map[string]resource) {
	client := cloudwatch.NewFromConfig(cfg, func(o *cloudwatch.Options) { o.Protocol = awsquery.New(schemas.GraniteServiceVersion20100801) }) // moto has no CBOR
	ours := 0
	for name, r := range resources {
		if r.Type != "AWS::CloudWatch::Alarm" {
			continue
		}
		in := cloudwatch.PutMetricAlarmInput{AlarmName: &name}
		filled(t, r.Properties, "Period EvaluationPeriods Threshold", &in)
		if _, err := client.PutMetricAlarm(t.Context(), &in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	out, err := client.DescribeAlarms(t.Context(), &cloudwatch.DescribeAlarmsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range out.MetricAlarms {
		if aws.ToString(a.Namespace) == "Lotse" && *a.MetricName == "Errors" && len(a.Dimensions) == 2 && *a.Threshold == 10 {
			ours++
		}
	}
	if ours != 1 || len(out.MetricAlarms) < 5 {
		t.Errorf("%d alarms are there, %d of what fronts count", len(out.MetricAlarms), ours)
	}
}

// samplesAreTaken writes as an instance does, and reads as the controller does.
func samplesAreTaken(t *testing.T, cfg aws.Config) {
	const group = "/lotse/shop/prod"
	if _, err := cloudwatchlogs.NewFromConfig(cfg).CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String(group)}); err != nil {
		t.Fatal(err)
	}
	stack(t, cfg, "ProdLogs", group)
	at := time.Now().Add(-time.Minute).Truncate(10 * time.Second)
	line := func(requests int) string {
		return fmt.Sprintf(`{"rollout":"r1","slot":%q,"part":0,"samples":[{"service":"web","method":"GET","endpoint":"/","requests":%d,"latency":[8,%d]}]}`, at.UTC().Format(time.RFC3339), requests, requests)
	}
	for i, stream := range []string{"samples/r1/A", "samples/r1/B"} { // moto looks at no beginning of streams
		w := &engine.LogWriter{Config: func(context.Context, string) (aws.Config, error) { return cfg, nil }}
		for range 2 { // the second is one whose answer was lost
			if err := w.Write(t.Context(), region, group, stream, at, []string{line(i + 1)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	e, _ := open(t, cfg, 15)
	all, err := e.Samples(t.Context(), at, at.Add(time.Second))
	if err != nil || len(all) != 1 || all[0].Rollout != "r1" || all[0].Requests != 3 || all[0].Latency.Sum() != 3 {
		t.Errorf("%+v, %v", all, err)
	}
	if all, err := e.Samples(t.Context(), at.Add(10*time.Second), at.Add(20*time.Second)); err != nil || len(all) != 0 {
		t.Errorf("in the slot after it: %+v, %v", all, err)
	}
}
