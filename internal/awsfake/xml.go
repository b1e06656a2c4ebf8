package awsfake

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// timeFormat is ISO 8601 in UTC with milliseconds, as the query-protocol services write it.
const timeFormat = "2006-01-02T15:04:05.000Z"

// writeXML encodes an SDK output as the answer to action in the query protocol: members by their Go names, which are the
// model's, lists as member, maps as entry, nil left out.
func writeXML(namespace, action, requestID string, output any) string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "<%sResponse xmlns=%q>", action, namespace)
	v := reflect.Indirect(reflect.ValueOf(output))
	if v.NumField() > 2 || emptyResult(action) || strings.Contains(namespace, "elasticloadbalancing") { // more than ResultMetadata and the SDK's marker
		fmt.Fprintf(b, "<%sResult>", action)
		xmlStruct(b, v)
		fmt.Fprintf(b, "</%sResult>", action)
	}
	fmt.Fprintf(b, "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>", requestID, action)
	return b.String()
}

// emptyResult are the operations whose models have a result without members. Of load balancing, all have.
func emptyResult(action string) bool {
	return action == "ExecuteChangeSet" || action == "DeleteChangeSet" || action == "ContinueUpdateRollback"
}

func xmlStruct(b *strings.Builder, v reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() || field.Name == "ResultMetadata" {
			continue
		}
		xmlValue(b, field.Name, v.Field(i))
	}
}

func xmlValue(b *strings.Builder, name string, v reflect.Value) {
	if empty(v) {
		return
	}
	v = reflect.Indirect(v)
	fmt.Fprintf(b, "<%s>", name)
	switch {
	case isTime(v.Type()):
		b.WriteString(v.Interface().(time.Time).UTC().Format(timeFormat))
	case v.Kind() == reflect.Struct:
		xmlStruct(b, v)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		b.WriteString(base64.StdEncoding.EncodeToString(v.Bytes()))
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			xmlValue(b, "member", v.Index(i))
		}
	case v.Kind() == reflect.Map:
		xmlMap(b, v)
	default:
		_ = xml.EscapeText(b, []byte(scalarText(v)))
	}
	fmt.Fprintf(b, "</%s>", name)
}

func xmlMap(b *strings.Builder, v reflect.Value) {
	keys := map[string]reflect.Value{}
	for _, key := range v.MapKeys() {
		keys[key.String()] = key
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		b.WriteString("<entry>")
		xmlValue(b, "key", keys[name])
		xmlValue(b, "value", v.MapIndex(keys[name]))
		b.WriteString("</entry>")
	}
}

// empty says that a member is left out: nil, an enum that is not set. An empty list that is not nil is written.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return v.IsNil()
	case reflect.String:
		return v.Type() != reflect.TypeFor[string]() && v.String() == ""
	default:
		return false
	}
}

func scalarText(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	default:
		panic("awsfake: no text for " + v.Type().String())
	}
}

func xmlError(namespace, requestID string, refusal *apiError) string {
	b := &strings.Builder{}
	fault := "Sender"
	if refusal.status() >= 500 {
		fault = "Receiver"
	}
	fmt.Fprintf(b, "<ErrorResponse xmlns=%q><Error><Type>%s</Type><Code>%s</Code><Message>", namespace, fault, refusal.Code)
	_ = xml.EscapeText(b, []byte(refusal.Message))
	fmt.Fprintf(b, "</Message></Error><RequestId>%s</RequestId></ErrorResponse>", requestID)
	return b.String()
}
