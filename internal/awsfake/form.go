package awsfake

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// formNode is one level of a query-protocol form: OptionSettings.member.1.Value is a path through three of them.
type formNode struct {
	value    string
	children map[string]*formNode
}

func (n *formNode) at(path string) *formNode {
	for part := range strings.SplitSeq(path, ".") {
		if n.children == nil {
			n.children = map[string]*formNode{}
		}
		next, there := n.children[part]
		if !there {
			next = &formNode{}
			n.children[part] = next
		}
		n = next
	}
	return n
}

// readForm fills into, a pointer to an SDK input, from a query-protocol form. A member that the input does not have is an
// error, as is a value that its type cannot hold or its enum does not name.
func readForm(form url.Values, into any) error {
	root := &formNode{}
	for path, values := range form {
		if path == "Action" || path == "Version" {
			continue
		}
		root.at(path).value = values[0]
	}
	return root.fill("", reflect.ValueOf(into).Elem())
}

func (n *formNode) fill(path string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		if isTime(v.Type()) {
			return n.fillTime(path, v.Elem())
		}
		return n.fill(path, v.Elem())
	case reflect.Struct:
		return n.fillStruct(path, v)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			raw, err := base64.StdEncoding.DecodeString(n.value)
			v.SetBytes(raw)
			return err
		}
		return n.fillList(path, v)
	case reflect.Map:
		return n.fillMap(path, v)
	default:
		return setScalar(path, v, n.value)
	}
}

func (n *formNode) fillStruct(path string, v reflect.Value) error {
	for name, child := range n.children {
		field := v.FieldByName(name)
		if !field.IsValid() || !field.CanSet() || name == "ResultMetadata" {
			return malformed("unknown member %s%s", path, name)
		}
		if err := child.fill(path+name+".", field); err != nil {
			return err
		}
	}
	return nil
}

// fillList takes members in the order of their numbers. An empty list comes as the bare name with an empty value.
func (n *formNode) fillList(path string, v reflect.Value) error {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	if len(n.children) == 0 {
		return nil
	}
	members, there := n.children["member"]
	if !there || len(n.children) != 1 {
		return malformed("%s is a list: its elements are %smember.N", strings.TrimSuffix(path, "."), path)
	}
	for i := 1; i <= len(members.children); i++ {
		child, there := members.children[strconv.Itoa(i)]
		if !there {
			return malformed("%smember has no element %d", path, i)
		}
		element := reflect.New(v.Type().Elem()).Elem()
		if err := child.fill(fmt.Sprintf("%smember.%d.", path, i), element); err != nil {
			return err
		}
		v.Set(reflect.Append(v, element))
	}
	return nil
}

func (n *formNode) fillMap(path string, v reflect.Value) error {
	v.Set(reflect.MakeMap(v.Type()))
	entries, there := n.children["entry"]
	if !there {
		return nil
	}
	for number, entry := range entries.children {
		key, value := entry.children["key"], entry.children["value"]
		if key == nil || value == nil {
			return malformed("%sentry.%s has no key or no value", path, number)
		}
		element := reflect.New(v.Type().Elem()).Elem()
		if err := value.fill(path, element); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(key.value).Convert(v.Type().Key()), element)
	}
	return nil
}

func (n *formNode) fillTime(path string, v reflect.Value) error {
	at, err := time.Parse(time.RFC3339Nano, n.value)
	if err != nil {
		return malformed("%s is no ISO 8601 time", strings.TrimSuffix(path, "."))
	}
	v.Set(reflect.ValueOf(at))
	return nil
}

func isTime(t reflect.Type) bool {
	return t == reflect.TypeFor[time.Time]() || t == reflect.TypeFor[*time.Time]()
}

func malformed(format string, args ...any) error {
	return refuse("MalformedQueryString", format, args...)
}

// setScalar sets a string, enum, number or bool from its text.
func setScalar(path string, v reflect.Value, text string) (err error) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return checkEnum(path, v)
	case reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(text)
		v.SetBool(b)
	case reflect.Int32, reflect.Int64:
		var i int64
		i, err = strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(i)
	case reflect.Float32, reflect.Float64:
		var f float64
		f, err = strconv.ParseFloat(text, 64)
		v.SetFloat(f)
	default:
		return fmt.Errorf("codec: %s has the type %s, which the fake cannot read", path, v.Type())
	}
	if err != nil {
		return malformed("%s: %q is no %s", strings.TrimSuffix(path, "."), text, v.Kind())
	}
	return nil
}

// checkEnum refuses a value that the model's enum does not name. The SDK gives every enum a method Values.
func checkEnum(path string, v reflect.Value) error {
	method := v.MethodByName("Values")
	if !method.IsValid() {
		return nil
	}
	known := method.Call(nil)[0]
	var names []string
	for i := range known.Len() {
		names = append(names, known.Index(i).String())
	}
	if slices.Contains(names, v.String()) {
		return nil
	}
	return constraint(v.String(), strings.TrimSuffix(path, "."), "Member must satisfy enum value set: ["+strings.Join(names, ", ")+"]")
}
