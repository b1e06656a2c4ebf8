package config

import (
	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// snapshots is "off", or a mapping.
type snapshots struct {
	Off    off  `json:"off" jsonschema_description:"off: none is made by itself."`
	At     text `json:"at" jsonschema:"minLength=5,example=03:00,example=03:00 Europe/Berlin" jsonschema_description:"When the daily one is taken; UTC where no zone is named. Where nothing is said: 03:00."`
	Keep   keep `json:"keep" jsonschema_description:"How many are kept: the last of so many days, weeks and months. Where nothing is said: 7, 4 and 6. What goes goes only after a newer one is proven."`
	To     text `json:"to" jsonschema:"minLength=1,example=/srv/snapshots,example=s3://whatsgonow-snapshots/prod" jsonschema_description:"A folder of another disk, or a bucket in the EU. Without it: below the state folder."`
	Check  text `json:"check" jsonschema:"minLength=1,example=bin/api check" jsonschema_description:"Program to run on what a drill or a restore has brought back, in the folder of the release, with DATABASE_URL of that. It says by its exit code whether the data is good."`
	Drills text `json:"drills" jsonschema:"enum=every,enum=weekly,enum=monthly,example=weekly" jsonschema_description:"How often a snapshot is restored to prove it. Where nothing is said: every, and weekly on RDS, where each takes an instance for some hours."`
}

type keep struct {
	Daily   count `json:"daily" jsonschema:"minimum=1,maximum=1000,example=7" jsonschema_description:"Days."`
	Weekly  count `json:"weekly" jsonschema:"minimum=0,maximum=1000,example=4" jsonschema_description:"Weeks."`
	Monthly count `json:"monthly" jsonschema:"minimum=0,maximum=1000,example=6" jsonschema_description:"Months."`
}

func (s *snapshots) short() scalar { return &s.Off }

// JSONSchemaExtend says that a word will do.
func (snapshots) JSONSchemaExtend(s *jsonschema.Schema) {
	either(s, &jsonschema.Schema{Enum: []any{"off", false}})
}

// rule is what the file says, with what stands where it says nothing.
func (s snapshots) rule() deploy.SnapshotRule {
	r := deploy.SnapshotRule{At: string(s.At), Keep: deploy.Keep{Daily: int(s.Keep.Daily), Weekly: int(s.Keep.Weekly), Monthly: int(s.Keep.Monthly)},
		To: string(s.To), Check: string(s.Check), Drills: string(s.Drills)}
	if r.At == "" && !bool(s.Off) {
		r.At = "03:00"
	}
	if s.Keep == (keep{}) {
		r.Keep = deploy.Keep{Daily: 7, Weekly: 4, Monthly: 6}
	}
	return r
}

// off is the word.
type off bool

func (o *off) set(n *yaml.Node) (expected, hint string) {
	if *o = n.Value == "off" || n.Tag == "!!bool" && n.Value == "false"; !*o {
		return "off, or a mapping with at, keep, to, check and drills", "leave it out for a daily snapshot, and one before each migration"
	}
	return "", ""
}

// JSONSchema says what off may be.
func (off) JSONSchema() *jsonschema.Schema { return &jsonschema.Schema{Enum: []any{"off", false}} }
