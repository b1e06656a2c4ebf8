package awsfake

import (
	"fmt"
	"reflect"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
)

// CloudWatch's Go client speaks Smithy RPC v2 CBOR. The tree between is the one of JSON.

const epochTag = 1 // RFC 8949 §3.4.2: seconds since 1970

func readCBOR(body []byte, into any) error {
	value, err := cbor.Decode(body)
	if err != nil {
		return refuse("SerializationException", "the body is no CBOR")
	}
	tree, err := fromCBOR(value)
	if err != nil {
		return err
	}
	return fillTree("", tree, upperCamel, reflect.ValueOf(into).Elem())
}

func writeCBOR(output any) []byte {
	return cbor.Encode(toCBOR(treeOf(reflect.ValueOf(output), upperCamel, func(leaf any) any { return leaf })))
}

func fromCBOR(value cbor.Value) (any, error) {
	switch value := value.(type) {
	case cbor.Map:
		object := map[string]any{}
		for key, member := range value {
			var err error
			if object[key], err = fromCBOR(member); err != nil {
				return nil, err
			}
		}
		return object, nil
	case cbor.List:
		list := make([]any, len(value))
		for i, member := range value {
			var err error
			if list[i], err = fromCBOR(member); err != nil {
				return nil, err
			}
		}
		return list, nil
	case *cbor.Tag:
		return fromCBOR(value.Value)
	case cbor.NegInt:
		return -int64(uint64(value)), nil
	case cbor.Slice:
		return []byte(value), nil
	case *cbor.Nil:
		return nil, nil
	case cbor.String, cbor.Uint, cbor.Bool, cbor.Float32, cbor.Float64:
		return plain(value), nil
	}
	return nil, refuse("SerializationException", "%T is not known", value)
}

func plain(value cbor.Value) any {
	switch value := value.(type) {
	case cbor.String:
		return string(value)
	case cbor.Uint:
		return uint64(value)
	case cbor.Bool:
		return bool(value)
	case cbor.Float32:
		return float64(value)
	default:
		return float64(value.(cbor.Float64))
	}
}

func toCBOR(tree any) cbor.Value {
	switch value := tree.(type) {
	case map[string]any:
		object := cbor.Map{}
		for key, member := range value {
			object[key] = toCBOR(member)
		}
		return object
	case []any:
		list := make(cbor.List, len(value))
		for i, member := range value {
			list[i] = toCBOR(member)
		}
		return list
	case time.Time:
		return &cbor.Tag{ID: epochTag, Value: cbor.Float64(float64(value.UnixMilli()) / 1000)}
	case []byte:
		return cbor.Slice(value)
	case string:
		return cbor.String(value)
	case bool:
		return cbor.Bool(value)
	case float64:
		return cbor.Float64(value)
	case int32, int64:
		return cborInt(reflect.ValueOf(value).Int())
	}
	panic(fmt.Sprintf("awsfake: no CBOR for %T", tree))
}

func cborInt(i int64) cbor.Value {
	if i < 0 {
		return cbor.NegInt(uint64(-i))
	}
	return cbor.Uint(uint64(i))
}
