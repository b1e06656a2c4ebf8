package awsfake

import (
	"cmp"
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// databases are the instances of RDS that were restored, and the snapshots, of a region. What stacks make stands in their resources.
type databases struct {
	restored  []*restoredDatabase
	snapshots []*databaseSnapshot
}

type restoredDatabase struct {
	database
	ready, gone time.Time // gone is zero until it is deleted
}

type databaseSnapshot struct {
	DBSnapshotIdentifier, DBInstanceIdentifier, DBSnapshotArn, SnapshotType, Engine, EngineVersion, Status string
	SnapshotCreateTime                                                                                     string
	AllocatedStorage                                                                                       int
	TagList                                                                                                []databaseTag `xml:"TagList>Tag"`

	ready time.Time
}

type databaseTag struct{ Key, Value string }

// database is an instance as DescribeDBInstances tells it, as far as the fake does.
type database struct {
	DBInstanceIdentifier, Engine, EngineVersion, DBInstanceStatus, DBName, DBInstanceClass, DBInstanceArn string
	PubliclyAccessible                                                                                    bool
	Address                                                                                               string        `xml:"Endpoint>Address"`
	Port                                                                                                  int           `xml:"Endpoint>Port"`
	Subnets                                                                                               string        `xml:"DBSubnetGroup>DBSubnetGroupName"`
	Groups                                                                                                []string      `xml:"VpcSecurityGroups>VpcSecurityGroupMembership>VpcSecurityGroupId"`
	Parameters                                                                                            string        `xml:"DBParameterGroups>DBParameterGroup>DBParameterGroupName"`
	TagList                                                                                               []databaseTag `xml:"TagList>Tag"`
}

// serveRDS knows the databases that stacks of the region have, snapshots of them by hand, and instances that are made of those. RDS names
// the elements of its lists, which no codec of the others does. Who calls is not asked who may: IAM is not evaluated.
func (w *World) serveRDS(rw http.ResponseWriter, r *http.Request, region string, body []byte) {
	form, _ := url.ParseQuery(string(body)) // what is not a form has no action, and is refused for that
	s := &service{name: "rds", namespace: "http://rds.amazonaws.com/doc/2014-10-31/"}
	w.mu.Lock()
	call := w.record(Call{Service: "rds", Action: form.Get("Action"), Region: region,
		Resource: cmp.Or(form.Get("DBInstanceIdentifier"), form.Get("DBSnapshotIdentifier"), form.Get("ResourceName"))})
	fault := w.strikes(call)
	var result any
	var err error
	if fault == nil || fault.Done {
		result, err = w.rds(w.in(region), form)
	}
	w.mu.Unlock()
	w.log(call, err)
	switch {
	case fault != nil:
		w.strike(rw, r, s, query, fault, call)
		return
	case err != nil:
		w.setErr(call, codeOf(err))
		w.answerError(rw, s, query, err)
		return
	}
	raw, err := xml.Marshal(result)
	if err != nil {
		w.t.Errorf("awsfake: rds: %v", err)
	}
	rw.Header().Set("Content-Type", "text/xml")
	action := call.Action
	_, _ = rw.Write([]byte("<" + action + "Response xmlns=\"" + s.namespace + "\">" + string(raw) + "</" + action + "Response>")) //nolint:gosec // XML of a fake, for clients that are no browsers; who has gone away reads no answer
}

// rds carries out one call. The caller holds mu.
func (w *World) rds(r *region, form url.Values) (any, error) {
	name := form.Get("DBInstanceIdentifier")
	switch action := form.Get("Action"); action {
	case "DescribeDBInstances":
		if name == "" {
			return nil, refuse("InvalidAction", "the fake lists no databases: it answers for one by its name")
		}
		found := w.databaseOf(r.name, name)
		if found == nil {
			return nil, &apiError{Code: "DBInstanceNotFound", Message: "DBInstance " + name + " not found.", HTTP: http.StatusNotFound}
		}
		return struct {
			XMLName xml.Name   `xml:"DescribeDBInstancesResult"`
			All     []database `xml:"DBInstances>DBInstance"`
		}{All: []database{*found}}, nil
	case "CreateDBSnapshot":
		return w.createSnapshot(r, form)
	case "DescribeDBSnapshots":
		all := []databaseSnapshot{}
		for _, s := range r.databases.snapshots {
			all = append(all, s.now())
		}
		return struct {
			XMLName xml.Name           `xml:"DescribeDBSnapshotsResult"`
			All     []databaseSnapshot `xml:"DBSnapshots>DBSnapshot"`
		}{All: all}, nil
	case "DeleteDBSnapshot":
		s, err := r.databases.snapshot(form.Get("DBSnapshotIdentifier"))
		if err == nil {
			r.databases.snapshots = slices.DeleteFunc(r.databases.snapshots, func(o *databaseSnapshot) bool { return o == s })
		}
		return rdsAnswer("DeleteDBSnapshotResult"), err
	case "RestoreDBInstanceFromDBSnapshot":
		return w.restoreDatabase(r, form)
	case "DeleteDBInstance":
		return w.deleteDatabase(r, name)
	case "AddTagsToResource":
		return rdsAnswer("AddTagsToResourceResult"), r.databases.addTags(form.Get("ResourceName"), tagsIn(form))
	default:
		return nil, refuse("InvalidAction", "Could not find operation %s in the fake", action)
	}
}

// rdsAnswer is a result of which nobody reads anything.
func rdsAnswer(name string) any {
	return struct{ XMLName xml.Name }{xml.Name{Local: name}}
}

func tagsIn(form url.Values) (tags []databaseTag) {
	for i := 1; form.Has("Tags.Tag." + strconv.Itoa(i) + ".Key"); i++ {
		at := "Tags.Tag." + strconv.Itoa(i)
		tags = append(tags, databaseTag{form.Get(at + ".Key"), form.Get(at + ".Value")})
	}
	return tags
}

func (w *World) createSnapshot(r *region, form url.Values) (any, error) {
	name, of := form.Get("DBSnapshotIdentifier"), w.databaseOf(r.name, form.Get("DBInstanceIdentifier"))
	switch {
	case of == nil:
		return nil, &apiError{Code: "DBInstanceNotFound", Message: "DBInstance not found.", HTTP: http.StatusNotFound}
	case of.DBInstanceStatus != "available":
		return nil, refuse("InvalidDBInstanceState", "Cannot create a snapshot because the database instance %s is not currently in the available state.", of.DBInstanceIdentifier)
	}
	if _, err := r.databases.snapshot(name); err == nil {
		return nil, refuse("DBSnapshotAlreadyExists", "Cannot create the snapshot because a snapshot with the identifier %s already exists.", name)
	}
	if most := cmp.Or(w.options.Quotas["ManualSnapshots"], 100); len(r.databases.snapshots) >= most {
		return nil, refuse("SnapshotQuotaExceeded", "Cannot create more than %d manual snapshots", most)
	}
	now := time.Now()
	r.databases.snapshots = append(r.databases.snapshots, &databaseSnapshot{DBSnapshotIdentifier: name, DBInstanceIdentifier: of.DBInstanceIdentifier, SnapshotType: "manual",
		DBSnapshotArn: w.rdsARN(r, "snapshot", name), Engine: of.Engine, EngineVersion: of.EngineVersion, AllocatedStorage: 20, SnapshotCreateTime: now.UTC().Format(timeFormat),
		TagList: tagsIn(form), ready: now.Add(w.options.Database)})
	return rdsAnswer("CreateDBSnapshotResult"), nil
}

func (w *World) rdsARN(r *region, kind, name string) string {
	return "arn:aws:rds:" + r.name + ":" + w.options.Account + ":" + kind + ":" + name
}

// now is the snapshot as it is told at this moment.
func (s *databaseSnapshot) now() databaseSnapshot {
	told := *s
	if told.Status == "" {
		told.Status = "available"
		if time.Now().Before(s.ready) {
			told.Status = "creating"
		}
	}
	return told
}

func (d *databases) snapshot(name string) (*databaseSnapshot, error) {
	for _, s := range d.snapshots {
		if s.DBSnapshotIdentifier == name {
			return s, nil
		}
	}
	return nil, &apiError{Code: "DBSnapshotNotFound", Message: "DBSnapshot " + name + " not found.", HTTP: http.StatusNotFound}
}

func (d *databases) addTags(arn string, tags []databaseTag) error {
	for _, s := range d.snapshots {
		if s.DBSnapshotArn != arn {
			continue
		}
		for _, tag := range tags {
			s.TagList = append(slices.DeleteFunc(s.TagList, func(t databaseTag) bool { return t.Key == tag.Key }), tag)
		}
		return nil
	}
	return &apiError{Code: "DBSnapshotNotFound", Message: "not found: " + arn, HTTP: http.StatusNotFound}
}

func (w *World) restoreDatabase(r *region, form url.Values) (any, error) {
	name := form.Get("DBInstanceIdentifier")
	of, err := r.databases.snapshot(form.Get("DBSnapshotIdentifier"))
	if err != nil {
		return nil, err
	}
	if state := of.now().Status; state != "available" {
		return nil, refuse("InvalidDBSnapshotState", "The snapshot is %s.", state)
	}
	if w.databaseOf(r.name, name) != nil {
		return nil, refuse("DBInstanceAlreadyExists", "DB Instance already exists")
	}
	made := &restoredDatabase{ready: time.Now().Add(w.options.Database), database: database{DBInstanceIdentifier: name, Engine: of.Engine, EngineVersion: of.EngineVersion, DBName: "app",
		DBInstanceClass: form.Get("DBInstanceClass"), DBInstanceArn: w.rdsARN(r, "db", name), PubliclyAccessible: form.Get("PubliclyAccessible") != "false",
		Address: name + ".fake." + r.name + ".rds.amazonaws.com", Port: 5432, Subnets: form.Get("DBSubnetGroupName"), Parameters: form.Get("DBParameterGroupName"), TagList: tagsIn(form)}}
	for i := 1; form.Has("VpcSecurityGroupIds.VpcSecurityGroupId." + strconv.Itoa(i)); i++ {
		made.Groups = append(made.Groups, form.Get("VpcSecurityGroupIds.VpcSecurityGroupId."+strconv.Itoa(i)))
	}
	r.databases.restored = append(r.databases.restored, made)
	return rdsAnswer("RestoreDBInstanceFromDBSnapshotResult"), nil
}

// deleteDatabase deletes an instance that was restored; one of a stack is protected, as those of Lotse's templates are.
func (w *World) deleteDatabase(r *region, name string) (any, error) {
	i := slices.IndexFunc(r.databases.restored, func(d *restoredDatabase) bool {
		return strings.EqualFold(d.DBInstanceIdentifier, name) && d.gone.IsZero()
	})
	if i < 0 {
		if w.databaseOf(r.name, name) != nil {
			return nil, refuse("InvalidParameterCombination", "Cannot delete protected DB Instance, please disable deletion protection and try again.")
		}
		return nil, &apiError{Code: "DBInstanceNotFound", Message: "DBInstance " + name + " not found.", HTTP: http.StatusNotFound}
	}
	d := r.databases.restored[i]
	if time.Now().Before(d.ready) {
		return nil, refuse("InvalidDBInstanceState", "Instance %s is currently creating - try again later.", name)
	}
	d.gone = time.Now().Add(w.options.Database)
	return rdsAnswer("DeleteDBInstanceResult"), nil
}

// now is an instance as it is told at this moment, nil where it is gone.
func (d *restoredDatabase) now() *database {
	told := d.database
	switch at := time.Now(); {
	case !d.gone.IsZero() && at.After(d.gone):
		return nil
	case !d.gone.IsZero():
		told.DBInstanceStatus = "deleting"
	case told.DBInstanceStatus != "":
	case at.Before(d.ready):
		told.DBInstanceStatus, told.Address = "creating", ""
	default:
		told.DBInstanceStatus = "available"
	}
	return &told
}

// databaseOf finds a database that a stack has made, or that was restored. The caller holds mu.
func (w *World) databaseOf(region, name string) *database {
	for _, d := range w.in(region).databases.restored {
		if told := d.now(); told != nil && strings.EqualFold(d.DBInstanceIdentifier, name) {
			return told
		}
	}
	for _, s := range w.in(region).stacks {
		for _, r := range s.resources {
			if r.kind == "AWS::RDS::DBInstance" && strings.EqualFold(r.physical, name) {
				version := str(r.properties["EngineVersion"])
				if !strings.Contains(version, ".") {
					version += ".4" // RDS tells the minor version that it has chosen
				}
				told := &database{DBInstanceIdentifier: r.physical, Engine: str(r.properties["Engine"]), EngineVersion: version, DBName: str(r.properties["DBName"]),
					DBInstanceStatus: cmp.Or(str(r.byHand["DBInstanceStatus"]), "available"), DBInstanceClass: str(r.properties["DBInstanceClass"]),
					Address: r.physical + ".fake." + region + ".rds.amazonaws.com", Port: 5432, Subnets: str(r.properties["DBSubnetGroupName"]), Parameters: str(r.properties["DBParameterGroupName"])}
				for _, group := range list(r.properties["VPCSecurityGroups"]) {
					told.Groups = append(told.Groups, str(group))
				}
				return told
			}
		}
	}
	return nil
}

// RestoredDatabases are the instances that were made of snapshots and are there, those that are being deleted left out: each as name, class, group
// and subnets, with its tags.
func (w *World) RestoredDatabases() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.regions {
		for _, d := range r.databases.restored {
			told := d.now()
			if told == nil || told.DBInstanceStatus == "deleting" {
				continue
			}
			line := []string{told.DBInstanceIdentifier, told.DBInstanceClass, strings.Join(told.Groups, "+"), told.Subnets, told.Parameters, "public:" + strconv.FormatBool(told.PubliclyAccessible)}
			for _, t := range told.TagList {
				line = append(line, t.Key+"="+t.Value)
			}
			all = append(all, strings.Join(line, " "))
		}
	}
	return all
}

// ForgetSnapshots takes all snapshots away, as by hand.
func (w *World) ForgetSnapshots() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.regions {
		r.databases.snapshots = nil
	}
}

// ForeignDatabase makes a snapshot and an instance that somebody has made by hand, without a tag.
func (w *World) ForeignDatabase(snapshot, instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.in(w.options.Region)
	r.databases.snapshots = append(r.databases.snapshots, &databaseSnapshot{DBSnapshotIdentifier: snapshot, DBSnapshotArn: w.rdsARN(r, "snapshot", snapshot),
		SnapshotCreateTime: time.Now().UTC().Format(timeFormat)})
	r.databases.restored = append(r.databases.restored, &restoredDatabase{database: database{DBInstanceIdentifier: instance}})
}

// DatabaseSnapshot puts every snapshot whose name holds part into a state: "failed", "creating"; "" is as it would be.
func (w *World) DatabaseSnapshot(part, status string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.regions {
		for _, s := range r.databases.snapshots {
			if strings.Contains(s.DBSnapshotIdentifier, part) {
				s.Status = status
			}
		}
	}
}

// Elsewhere lets the instances of environments that are launched from now on reach address (host:port) at another one: where it stands in a
// variable, a secret or a command, to is put in its place. It is how a real PostgreSQL stands behind the name of an RDS database.
func (w *World) Elsewhere(address, to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.elsewhere = append(w.elsewhere, address, to)
}
