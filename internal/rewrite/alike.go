package rewrite

import (
	"bytes"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A param is a parameter of a field (RFC 2045 section 5.1), with its name in lower case.
type param struct{ name, value string }

// alikeParams returns the parameters in value up to the first place that programs read in different
// ways, and rest, the text from there on. (Package readings has mails with such values, and what
// programs read in them.)
//
// Programs agree about more than RFC 2045 permits: text that is no parameter, an unquoted value
// with any characters, blanks included. They differ about quotes that do not enclose a whole value,
// about backslashes before any character but a quote, and about comments.
func alikeParams(value string) (params []param, rest string) {
	_, rest, _ = strings.Cut(value, ";")
	for n := 0; rest != "" && n < maxParams; n++ {
		piece, after, closed := cutAlike(rest)
		name, v, given := strings.Cut(piece, "=")
		name, v = strings.ToLower(trimBlanks(name)), trimBlanks(v)
		v, alike := plainValue(v)
		if !closed || !alike || strings.ContainsAny(name, `"(\`) {
			return params, rest
		}
		if given && name != "" && firstToken(name) == name {
			params = append(params, param{name, v})
		}
		rest = after
	}
	return params, rest
}

// cutAlike cuts at the first semicolon outside quotes; closed reports whether all quotes end before
// it.
func cutAlike(s string) (piece, after string, closed bool) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"' && (!quoted || s[i-1] != '\\'):
			quoted = !quoted
		case s[i] == ';' && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", !quoted
}

// plainValue returns a parameter's value without its quotes. alike is false if programs differ
// about the value.
func plainValue(v string) (plain string, alike bool) {
	if inner, quoted := strings.CutPrefix(v, `"`); quoted {
		inner, closed := strings.CutSuffix(inner, `"`)
		odd := strings.ContainsAny(strings.ReplaceAll(inner, `\"`, ""), `"\`)
		return strings.ReplaceAll(inner, `\"`, `"`), closed && !odd
	}
	comment := strings.Contains(v, " (") || strings.Contains(v, "\t(")
	return v, !comment && !strings.ContainsAny(v, `"\`)
}

func trimBlanks(s string) string { return strings.Trim(s, " \t") }

// alikeMap returns the parameters by name, and false if two contradict each other.
func alikeMap(params []param) (map[string]string, bool) {
	m, alike := make(map[string]string, len(params)), true
	for _, p := range params {
		if v, twice := m[p.name]; !twice {
			m[p.name] = p.value
		} else if v != p.value {
			alike = false
		}
	}
	return m, alike
}

// alikeBoundary returns the boundary in the value of a Content-Type, or "" if it has no boundary or
// programs read different ones. raw is the field's body as received.
func alikeBoundary(value string, raw []byte) string {
	params, rest := alikeParams(value)
	if strings.Contains(strings.ToLower(rest), "boundary") {
		return ""
	}
	isPart := func(p param) bool { return strings.HasPrefix(p.name, "boundary*") }
	params = slices.DeleteFunc(params, func(p param) bool { return p.name != "boundary" && !isPart(p) })
	b, ok := "", false
	switch {
	case len(params) == 0:
	case slices.ContainsFunc(params, isPart):
		b, ok = extended(params, "boundary")
	default:
		b = params[0].value
		contradicts := slices.ContainsFunc(params, func(p param) bool { return p.value != b })
		ok = !contradicts && stands(b, raw)
	}
	if !ok || strings.HasPrefix(b, "<") && strings.HasSuffix(b, ">") || strings.ContainsFunc(b, notBoundary) {
		return ""
	}
	return b
}

// notBoundary reports whether programs differ about a character in a boundary.
func notBoundary(r rune) bool { return r < ' ' && r != '\t' || r > '~' }

// stands reports whether raw has the boundary in the form in which programs read it. In a folded
// one, header.value puts a space where programs keep the blanks of the fold, so the two are the
// same only if the fold is a single space.
func stands(boundary string, raw []byte) bool {
	if bytes.Contains(raw, []byte(boundary)) {
		return true
	}
	unfolded := bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r"), nil), []byte("\n"), nil)
	return bytes.Contains(unfolded, []byte(`"`+boundary+`"`))
}

// extended joins the segments of a parameter in the notation of RFC 2231: name*, or name*0, name*1
// and so on, each with another * if it is percent-encoded. Programs that do not know the notation
// take the plain name, so it must not occur beside the segments.
//
// QUIRK: Python writes long boundaries like this.
func extended(segments []param, name string) (string, bool) {
	var b strings.Builder
	for i, s := range segments {
		encoded := s.name == name+"*" && len(segments) == 1 || s.name == name+"*"+strconv.Itoa(i)+"*"
		if !encoded && s.name != name+"*"+strconv.Itoa(i) {
			return "", false
		}
		v := s.value
		if encoded && i == 0 {
			parts := strings.SplitN(v, "'", 3)
			if len(parts) < 3 {
				return "", false
			}
			v = parts[2]
		}
		decoded, err := url.PathUnescape(v)
		if err != nil || !encoded && decoded != v {
			return "", false
		}
		b.WriteString(decoded)
	}
	return b.String(), true
}
