package infra

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// stagesAreApart: a stage's instances have a role and a group of their own, that role reaches nothing that has another stage's name, and
// a stage's database and volumes admit its own group alone. It says nothing of an app of files alone, which has no instances.
func stagesAreApart(template map[string]any) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	stages := stagesOf(template)
	roles, names, groups := map[string]string{}, map[string]string{}, map[string]string{}
	for _, s := range slices.Sorted(maps.Keys(stages)) {
		profile := fmt.Sprint(at(template, "Outputs", s+"InstanceProfile", "Value", "Ref"))
		role := fmt.Sprint(at(template, "Resources", profile, "Properties", "Roles", "0", "Ref"))
		name := fmt.Sprint(at(template, "Resources", role, "Properties", "RoleName"))
		group := fmt.Sprint(at(template, "Outputs", s+"InstanceSecurityGroup", "Value", "Fn::GetAtt", "0"))
		for what, taken := range map[string]map[string]string{role: roles, name: names, group: groups} {
			if taken[what] != "" || what == "<nil>" {
				say("%s and %s have both %s", taken[what], s, what)
			}
			taken[what] = s
		}
		wrong = append(wrong, roleIsOf(at(template, "Resources", role, "Properties", "Policies", "0", "PolicyDocument", "Statement"), role, s, stages)...)
		wrong = append(wrong, admitsOnly(template, s, group)...)
	}
	return append(wrong, passesTheseRoles(template, names)...)
}

// stagesOf are the stages that have instances, as the outputs call them, and their own names.
func stagesOf(template map[string]any) map[string]string {
	stages := map[string]string{}
	outputs, _ := template["Outputs"].(map[string]any)
	for name := range outputs {
		if s, is := strings.CutSuffix(name, "InstanceProfile"); is {
			group := fmt.Sprint(at(template, "Resources", s+"Logs", "Properties", "LogGroupName"))
			stages[s] = group[strings.LastIndex(group, "/")+1:]
		}
	}
	return stages
}

// things are what a role of stage must not reach where they are another stage's, as ARNs end.
func things(app, stage string) []string {
	return []string{
		":secret:lotse/" + app + "/" + stage + "/STRIPE_KEY-a1B2c3", ":secret:lotse/" + app + "/" + stage + "/engine/DATABASE_URL-a1B2c3", ":secret:lotse/" + app + "/" + stage + "/engine/database-a1B2c3",
		":log-group:/lotse/" + app + "/" + stage, ":log-group:/lotse/" + app + "/" + stage + ":log-stream:x",
		":log-group:/aws/elasticbeanstalk/" + app + "-" + stage + "-0123456789/var/log/web.stdout.log:log-stream:x",
		":environment/" + app + "/" + app + "-" + stage + "-0123456789",
	}
}

// roleIsOf looks at what the role of a stage may do. Its neighbours have names that begin and end like its own.
func roleIsOf(statements any, role, stage string, stages map[string]string) (wrong []string) {
	var app string
	if found := regexp.MustCompile(`application/([a-z0-9-]+)`).FindStringSubmatch(text(statements)); found != nil {
		app = found[1]
	}
	neighbours := []string{stages[stage] + "-two", "two-" + stages[stage], stages[stage][:1], "engine"}
	for other, name := range stages {
		if other != stage {
			neighbours = append(neighbours, name)
		}
	}
	for _, own := range things(app, stages[stage]) {
		if !allows(statements, own) {
			wrong = append(wrong, role+" cannot reach its own "+own)
		}
	}
	for _, n := range neighbours {
		for _, others := range things(app, n) {
			if allows(statements, others) {
				wrong = append(wrong, role+" reaches "+others)
			}
		}
	}
	all, _ := statements.([]any)
	for _, s := range all {
		if via := text(at(s, "Condition", "StringEquals", "kms:ViaService")); strings.Contains(text(at(s, "Action")), "kms:") && via != `["s3.eu-central-1.amazonaws.com","secretsmanager.eu-central-1.amazonaws.com"]`+"\n" &&
			via != `["s3.eu-west-3.amazonaws.com","secretsmanager.eu-west-3.amazonaws.com"]`+"\n" {
			wrong = append(wrong, role+" may use the key otherwise than through S3 and Secrets Manager: "+via)
		}
	}
	return wrong
}

// allows reports whether a resource of some statement matches an ARN that ends so. IAM's * stands for any letters, its ? for one. A lone *
// is the business of the rule "policies".
func allows(statements any, end string) bool {
	kind := end[:strings.IndexAny(end[1:], ":/")+2]
	all, _ := statements.([]any)
	for _, s := range all {
		resources, _ := at(s, "Resource").([]any)
		for _, r := range resources {
			_, pattern, found := strings.Cut(fmt.Sprint(at(r, "Fn::Sub")), kind)
			pattern = strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(kind + pattern))
			if found && regexp.MustCompile("^"+pattern+"$").MatchString(end) {
				return true
			}
		}
	}
	return false
}

// admitsOnly looks at a stage's database and volumes.
func admitsOnly(template map[string]any, stage, group string) (wrong []string) {
	guards := map[string]any{stage + "Database": at(template, "Resources", stage+"Database", "Properties", "VPCSecurityGroups")}
	for _, zone := range []string{"A", "B"} {
		guards[stage+"VolumesMount"+zone] = at(template, "Resources", stage+"VolumesMount"+zone, "Properties", "SecurityGroups")
	}
	for name, value := range guards {
		if at(template, "Resources", name) == nil {
			continue
		}
		if list, _ := value.([]any); len(list) != 1 {
			wrong = append(wrong, fmt.Sprintf("%s has %d groups", name, len(list)))
		}
		own := fmt.Sprint(at(value, "0", "Ref"))
		admitted, _ := at(template, "Resources", own, "Properties", "SecurityGroupIngress").([]any)
		if len(admitted) != 1 || !is(admitted, group, "0", "SourceSecurityGroupId", "Ref") {
			wrong = append(wrong, fmt.Sprintf("%s admits %v, and %s alone has %s", name, admitted, stage, group))
		}
	}
	return wrong
}

// passesTheseRoles: whoever deploys hands on the service's role and those of the stages, and no other.
func passesTheseRoles(template map[string]any, names map[string]string) (wrong []string) {
	if len(names) == 0 {
		return nil
	}
	want := []string{fmt.Sprint(at(template, "Resources", "ServiceRole", "Properties", "RoleName"))}
	for name := range names {
		want = append(want, name)
	}
	var got []string
	statements, _ := at(template, "Resources", "DeployPolicy", "Properties", "PolicyDocument", "Statement").([]any)
	for _, s := range statements {
		resources, _ := at(s, "Resource").([]any)
		for _, r := range resources {
			if strings.Contains(text(at(s, "Action")), "iam:PassRole") {
				_, name, _ := strings.Cut(fmt.Sprint(at(r, "Fn::Sub")), ":role/")
				got = append(got, name)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		wrong = append(wrong, fmt.Sprintf("roles that are handed on: %v, and there are %v", got, want))
	}
	return wrong
}

// The rule has something to look at wherever there are instances.
func TestStagesAreLookedAt(t *testing.T) {
	for name, want := range map[string]string{"mixed": "dev prod staging", "supabase": "prod", "own-balancer": "prod", "static": ""} {
		_, template := mainTemplate(t, shape(t, name))
		if got := strings.Join(slices.Sorted(maps.Values(stagesOf(template))), " "); got != want {
			t.Errorf("%s: the rule looks at the stages %q, want %q", name, got, want)
		}
	}
}

// Each is a mistake by which stages would not be apart, and what the plan of Terraform must say of it. All of them in one plan: it takes
// many seconds.
func TestTerraformSeesStagesThatAreNotApart(t *testing.T) {
	terraform, dir := plannable(t)
	faults := []struct{ file, old, new, says string }{
		{"roles.tf", "role = aws_iam_role.instance[each.key].name", `role = aws_iam_role.instance["dev"].name`, "two stages share a role or a group"},
		{"roles.tf", "secret:lotse/whatsgonow/${each.key}/*", "secret:lotse/whatsgonow/*", "a role reads another stage's secrets"},
		{"database.tf", "[aws_security_group.database[each.key].id]", `[aws_security_group.database["dev"].id]`, "a database has another stage's group"},
		{"volumes.tf", "aws_security_group.volumes[each.value[0]].id", `aws_security_group.volumes["dev"].id`, "a volume has another stage's group"},
		{"network.tf", "to_port                      = 5432\n  referenced_security_group_id = aws_security_group.instance[each.key].id",
			"to_port                      = 5432\n  referenced_security_group_id = aws_security_group.instance[\"dev\"].id", "a database admits another stage"},
		{"network.tf", "to_port                      = 2049\n  referenced_security_group_id = aws_security_group.instance[each.key].id",
			"to_port                      = 2049\n  referenced_security_group_id = aws_security_group.instance[\"dev\"].id", "a volume admits another stage"},
	}
	for _, f := range faults {
		at := filepath.Join(dir, f.file)
		good, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		bad := strings.Replace(string(good), f.old, f.new, 1)
		if bad == string(good) {
			t.Fatalf("there is no %q to plant a fault in", f.old)
		}
		if err := os.WriteFile(at, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, ok := runs(t, dir, terraform, "test", "-no-color")
	for _, f := range faults {
		if ok || !strings.Contains(out, f.says) {
			t.Errorf("terraform test did not see %q: %s", f.new, out)
		}
	}
}
