package config

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const envPrefix = "DETACH_"

// typo is the most characters in which a misspelt name differs from a known one; it is refused.
// Other unknown variables are ignored: for a service called detach-gateway, Kubernetes sets
// DETACH_GATEWAY_PORT and more.
const typo = 2

var proxyVariable = regexp.MustCompile(`^DETACH_PROXY_(?:(\d{1,2})_)?([A-Z_]+)$`)

// override sets the keys that the environment names.
func override(c *Config, environ []string) error {
	var errs []error
	environ = slices.Sorted(slices.Values(environ)) // DETACH_PROXY_0_… before DETACH_PROXY_1_…, which may both be new
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, envPrefix) || name == envPrefix+"CONFIG" {
			continue
		}
		fields := map[string]reflect.Value{}
		leaves(reflect.ValueOf(c).Elem(), envPrefix, "_", fields)
		field, known := fields[name]
		if m := proxyVariable.FindStringSubmatch(name); m != nil {
			var err error
			if field, known, err = proxyField(c, name, m[1], m[2], fields); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if !known {
			if near := nearest(name, names(fields)); near != "" {
				errs = append(errs, fmt.Errorf("%s: unknown variable: did you mean %s?", name, near))
			}
			continue
		}
		if err := set(field, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// proxyField returns a field of one [[proxy]]. It adds the [[proxy]] if it is the next one, and
// adds the names of its keys to fields.
func proxyField(c *Config, name, index, key string, fields map[string]reflect.Value) (field reflect.Value, known bool, err error) {
	p := DefaultProxy()
	probe := map[string]reflect.Value{}
	leaves(reflect.ValueOf(&p).Elem(), "", "_", probe)
	prefix := strings.TrimSuffix(name, key)
	for k, v := range probe {
		fields[prefix+k] = v
	}
	if _, known := probe[key]; !known {
		return reflect.Value{}, false, nil
	}
	if index == "" && len(c.Proxy) > 1 {
		return reflect.Value{}, false, fmt.Errorf("%s: there are %d proxies: say which, as %sPROXY_0_%s", name, len(c.Proxy), envPrefix, key)
	}
	i, _ := strconv.Atoi(index) // "" is 0
	if i > len(c.Proxy) {
		return reflect.Value{}, false, fmt.Errorf("%s: there is no proxy %d: number them from 0 without a gap", name, i-1)
	}
	if i == len(c.Proxy) {
		c.Proxy = append(c.Proxy, p)
	}
	own := map[string]reflect.Value{}
	leaves(reflect.ValueOf(&c.Proxy[i]).Elem(), "", "_", own)
	return own[key], true, nil
}

// leaves collects the fields below v that can be set, by their names. With "_" as separator these
// are the names of variables, in capitals.
func leaves(v reflect.Value, prefix, separator string, into map[string]reflect.Value) {
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("toml")
		if separator == "_" {
			name = strings.ToUpper(name)
		}
		f := v.Field(i)
		_, isText := f.Addr().Interface().(encoding.TextUnmarshaler)
		switch {
		case f.Kind() == reflect.Struct && !isText:
			leaves(f, prefix+name+separator, separator, into)
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct: // [[proxy]]
		default:
			into[prefix+name] = f
		}
	}
}

func set(field reflect.Value, value string) error {
	if t, ok := field.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return t.UnmarshalText([]byte(value))
	}
	if field.Kind() == reflect.Bool {
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%q is neither yes nor no: write true or false", value)
		}
		field.SetBool(b)
		return nil
	}
	if field.Kind() == reflect.Slice {
		list := strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
		field.Set(reflect.ValueOf(list))
		return nil
	}
	field.SetString(value)
	return nil
}

// keys returns the keys that a file may have.
func keys() []string {
	all := map[string]reflect.Value{}
	leaves(reflect.ValueOf(new(Config)).Elem(), "", ".", all)
	leaves(reflect.ValueOf(new(Proxy)).Elem(), "proxy.", ".", all)
	return names(all)
}

func names(fields map[string]reflect.Value) []string {
	return slices.Sorted(maps.Keys(fields))
}

func remedy(unknown string, known []string) string {
	if near := nearest(unknown, known); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	return "remove it; docs/detach.toml has all keys"
}

// nearest returns a known name that differs from name by a typo, or "".
func nearest(name string, known []string) string {
	i := slices.IndexFunc(known, func(k string) bool { return max(differing(name, k), differing(k, name)) <= typo })
	if i < 0 {
		return ""
	}
	return known[i]
}

// differing returns the length of a without the beginning and the end that it shares with b. A
// character missing, added or changed, or two swapped, leave at most two.
func differing(a, b string) int {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a)
}
