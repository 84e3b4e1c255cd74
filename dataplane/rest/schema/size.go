package schema

import "reflect"

// sizeOf estimates the memory that a value takes in bytes, with all that it
// leads to. What two lead to counts once, but for strings.
func sizeOf(v any) int64 {
	s := sizer{seen: map[target]bool{}}
	s.under(reflect.ValueOf(v))
	return s.bytes
}

type sizer struct {
	bytes int64
	seen  map[target]bool
}

// target is what a pointer or a map leads to.
type target struct {
	of reflect.Type
	at uintptr
}

// under counts what v leads to; v itself is a part of what was counted before.
func (s *sizer) under(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		s.bytes += int64(v.Len())
	case reflect.Pointer:
		if !v.IsNil() && s.first(v) {
			s.bytes += int64(v.Type().Elem().Size()) //nolint:gosec // of a type of ours
			s.under(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			s.under(v.Field(i))
		}
	case reflect.Slice:
		s.bytes += int64(v.Cap()) * int64(v.Type().Elem().Size()) //nolint:gosec // as above
		for i := range v.Len() {
			s.under(v.Index(i))
		}
	case reflect.Map:
		if !v.IsNil() && s.first(v) {
			// A table has a byte for each place beside key and value, and is three quarters full.
			of := v.Type()
			s.bytes += mapHeader + int64(v.Len())*int64(of.Key().Size()+of.Elem().Size()+1)*4/3 //nolint:gosec // as above
			for i := v.MapRange(); i.Next(); {
				s.under(i.Key())
				s.under(i.Value())
			}
		}
	}
}

const mapHeader = 48

func (s *sizer) first(v reflect.Value) bool {
	to := target{v.Type(), v.Pointer()}
	if s.seen[to] {
		return false
	}
	s.seen[to] = true
	return true
}
