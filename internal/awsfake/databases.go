package awsfake

import (
	"cmp"
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"
)

// serveRDS knows DescribeDBInstances of one name alone, for the databases that stacks of the region have. RDS names the elements of its
// lists, which no codec of the others does.
func (w *World) serveRDS(rw http.ResponseWriter, r *http.Request, region string, body []byte) {
	form, _ := url.ParseQuery(string(body)) // what is not a form has no action, and is refused for that
	name := form.Get("DBInstanceIdentifier")
	w.mu.Lock()
	call := w.record(Call{Service: "rds", Action: form.Get("Action"), Resource: name, Region: region})
	fault := w.strikes(call)
	found := w.databaseOf(region, name)
	w.mu.Unlock()
	s := &service{name: "rds", namespace: "http://rds.amazonaws.com/doc/2014-10-31/"}
	switch {
	case fault != nil:
		w.strike(rw, r, s, query, fault, call)
	case call.Action != "DescribeDBInstances" || name == "":
		w.setErr(call, "InvalidAction")
		w.answerError(rw, s, query, &apiError{Code: "InvalidAction", Message: "Could not find operation " + call.Action + " in the fake", HTTP: http.StatusBadRequest})
	case found == nil:
		w.setErr(call, "DBInstanceNotFound")
		w.answerError(rw, s, query, &apiError{Code: "DBInstanceNotFound", Message: "DBInstance " + name + " not found.", HTTP: http.StatusNotFound})
	default:
		rw.Header().Set("Content-Type", "text/xml")
		raw, err := xml.Marshal(struct {
			XMLName xml.Name   `xml:"http://rds.amazonaws.com/doc/2014-10-31/ DescribeDBInstancesResponse"`
			All     []database `xml:"DescribeDBInstancesResult>DBInstances>DBInstance"`
		}{All: []database{*found}})
		if err != nil {
			w.t.Errorf("awsfake: rds: %v", err)
		}
		_, _ = rw.Write(raw) // who has gone away reads no answer
	}
}

type database struct {
	DBInstanceIdentifier, Engine, EngineVersion, DBInstanceStatus, DBName string
}

// databaseOf finds a database that a stack has made. The caller holds mu.
func (w *World) databaseOf(region, name string) *database {
	for _, s := range w.in(region).stacks {
		for _, r := range s.resources {
			if r.kind == "AWS::RDS::DBInstance" && strings.EqualFold(r.physical, name) {
				version := str(r.properties["EngineVersion"])
				if !strings.Contains(version, ".") {
					version += ".4" // RDS tells the minor version that it has chosen
				}
				return &database{r.physical, str(r.properties["Engine"]), version, cmp.Or(str(r.byHand["DBInstanceStatus"]), "available"), str(r.properties["DBName"])}
			}
		}
	}
	return nil
}

// Elsewhere lets the instances of environments that are launched from now on reach address (host:port) at another one: where it stands in a
// variable or a secret, to is put in its place. It is how a real PostgreSQL stands behind the name of an RDS database.
func (w *World) Elsewhere(address, to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.elsewhere = append(w.elsewhere, address, to)
}
