package awsfake

import (
	"encoding/xml"
	"net/http"
	"strings"
)

// Zone makes a public hosted zone and gives its id. Of Route 53 the fake knows nothing but ListHostedZonesByName.
func (w *World) Zone(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := "Z" + strings.ToUpper(newHex(13))
	w.formation.zones = append(w.formation.zones, hostedZone{ID: "/hostedzone/" + id, Name: name + ".", CallerReference: newUUID()})
	return id
}

type hostedZone struct {
	ID              string `xml:"Id"`
	Name            string
	CallerReference string
	Config          struct{ PrivateZone bool }
	Count           int `xml:"ResourceRecordSetCount"`
}

// serveRoute53 answers in REST XML, which no codec of the others speaks. The zones from dnsname on are given, in the order of names
// as they were made.
func (w *World) serveRoute53(rw http.ResponseWriter, r *http.Request, region string) {
	action := "ListHostedZonesByName"
	if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/hostedzonesbyname") {
		action = r.Method + " " + r.URL.Path
	}
	w.mu.Lock()
	call := w.record(Call{Service: "route53", Action: action, Resource: r.URL.Query().Get("dnsname"), Region: region})
	fault := w.strikes(call)
	answer := struct {
		XMLName     xml.Name     `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ListHostedZonesByNameResponse"`
		Zones       []hostedZone `xml:"HostedZones>HostedZone"`
		DNSName     string       `xml:",omitempty"`
		IsTruncated bool
		MaxItems    string
	}{Zones: append([]hostedZone{}, w.formation.zones...), DNSName: r.URL.Query().Get("dnsname"), MaxItems: "100"}
	w.mu.Unlock()
	switch {
	case fault != nil:
		w.strike(rw, r, &service{name: "route53", namespace: "https://route53.amazonaws.com/doc/2013-04-01/"}, query, fault, call)
	case action != "ListHostedZonesByName":
		http.Error(rw, "the fake has no "+action, http.StatusNotImplemented)
	default:
		rw.Header().Set("Content-Type", "text/xml")
		_ = xml.NewEncoder(rw).Encode(answer)
	}
}
