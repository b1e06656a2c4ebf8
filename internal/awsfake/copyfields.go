package awsfake

import "reflect"

// copyFields copies the exported fields of from, a struct, that into, a pointer to a struct, has too.
func copyFields(into, from any) {
	target, source := reflect.ValueOf(into).Elem(), reflect.ValueOf(from)
	for i := range source.NumField() {
		name := source.Type().Field(i).Name
		field := target.FieldByName(name)
		if source.Type().Field(i).IsExported() && field.IsValid() && field.CanSet() {
			field.Set(source.Field(i))
		}
	}
}
