package awsfake

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode"
)

// Between the wire and the SDK's types stands a tree, for JSON and CBOR: maps, lists, strings, numbers, bools, times, bytes.

// naming is how a service spells the member that the SDK calls field in its type owner.
type naming func(owner, field string) string

func upperCamel(_, field string) string { return field }

// ssmSpelling: the filters of two old operations begin with a small letter, all else with a capital one.
func ssmSpelling(owner, field string) string {
	if owner == "CommandFilter" || owner == "InstanceInformationFilter" {
		return lowered(field)
	}
	return field
}

// lowerCamel is how CloudWatch Logs spells members.
func lowerCamel(_, field string) string { return lowered(field) }

func lowered(name string) string {
	runes := []rune(name)
	runes[0] = unicode.ToLower(runes[0])
	return string(runes)
}

func readJSON(body []byte, spell naming, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		return refuse("SerializationException", "the body is no JSON")
	}
	return fillTree("", tree, spell, reflect.ValueOf(into).Elem())
}

func writeJSON(output any, spell naming) ([]byte, error) {
	return json.Marshal(treeOf(reflect.ValueOf(output), spell, jsonLeaf))
}

// fillTree sets v from a decoded tree and refuses members that v's type does not have.
func fillTree(path string, tree any, spell naming, v reflect.Value) error {
	if tree == nil {
		return nil
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		return fillTree(path, tree, spell, v.Elem())
	}
	if isTime(v.Type()) {
		return fillTreeTime(path, tree, v)
	}
	switch value := tree.(type) {
	case map[string]any:
		return fillObject(path, value, spell, v)
	case []any:
		return fillArray(path, value, spell, v)
	case []byte:
		v.SetBytes(value)
		return nil
	case string:
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			raw, err := base64.StdEncoding.DecodeString(value)
			v.SetBytes(raw)
			return err
		}
		return setScalar(path, v, value)
	default:
		return setScalar(path, v, fmt.Sprint(value))
	}
}

func fillObject(path string, object map[string]any, spell naming, v reflect.Value) error {
	if v.Kind() == reflect.Map {
		v.Set(reflect.MakeMap(v.Type()))
		for key, value := range object {
			element := reflect.New(v.Type().Elem()).Elem()
			if err := fillTree(path+key+".", value, spell, element); err != nil {
				return err
			}
			v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), element)
		}
		return nil
	}
	if v.Kind() != reflect.Struct {
		return refuse("SerializationException", "%s is no structure", strings.TrimSuffix(path, "."))
	}
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		if field := v.Type().Field(i); field.IsExported() && field.Name != "ResultMetadata" {
			fields[spell(v.Type().Name(), field.Name)] = v.Field(i)
		}
	}
	for key, value := range object {
		field, there := fields[key]
		if !there {
			return refuse("SerializationException", "unknown member %s%s", path, key)
		}
		if err := fillTree(path+key+".", value, spell, field); err != nil {
			return err
		}
	}
	return nil
}

func fillArray(path string, array []any, spell naming, v reflect.Value) error {
	if v.Kind() != reflect.Slice {
		return refuse("SerializationException", "%s is no list", strings.TrimSuffix(path, "."))
	}
	v.Set(reflect.MakeSlice(v.Type(), len(array), len(array)))
	for i, value := range array {
		if err := fillTree(fmt.Sprintf("%s%d.", path, i), value, spell, v.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

func fillTreeTime(path string, tree any, v reflect.Value) error {
	if at, ok := tree.(time.Time); ok {
		v.Set(reflect.ValueOf(at))
		return nil
	}
	var seconds float64
	if _, err := fmt.Sscan(fmt.Sprint(tree), &seconds); err != nil {
		return refuse("SerializationException", "%s is no time", strings.TrimSuffix(path, "."))
	}
	whole, part := math.Modf(seconds)
	v.Set(reflect.ValueOf(time.Unix(int64(whole), int64(part*1e9)).UTC()))
	return nil
}

// treeOf is the other way round; leaf says how times and bytes are written.
func treeOf(v reflect.Value, spell naming, leaf func(any) any) any {
	v = reflect.Indirect(v)
	switch {
	case isTime(v.Type()):
		return leaf(v.Interface())
	case v.Kind() == reflect.Struct:
		object := map[string]any{}
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.IsExported() && field.Name != "ResultMetadata" && !empty(v.Field(i)) {
				object[spell(v.Type().Name(), field.Name)] = treeOf(v.Field(i), spell, leaf)
			}
		}
		return object
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		return leaf(v.Bytes())
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range v.Len() {
			list[i] = treeOf(v.Index(i), spell, leaf)
		}
		return list
	case v.Kind() == reflect.Map:
		object := map[string]any{}
		for _, key := range v.MapKeys() {
			object[key.String()] = treeOf(v.MapIndex(key), spell, leaf)
		}
		return object
	case v.Kind() == reflect.String:
		return v.String()
	default:
		return v.Interface()
	}
}

// jsonLeaf writes times as seconds since 1970 with milliseconds, and bytes as base64, as AWS JSON 1.1 does.
func jsonLeaf(value any) any {
	switch value := value.(type) {
	case time.Time:
		return math.Round(float64(value.UnixMilli())) / 1000
	case []byte:
		return base64.StdEncoding.EncodeToString(value)
	}
	return value
}
