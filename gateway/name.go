package gateway

import (
	"mime"
	"net/url"
	"strings"
	"unicode"
)

// disposition returns the Content-Disposition of a download whose name filename.Clean returned. A
// name with other characters than ASCII, or with "%", which browsers decode in the quoted form too,
// has both forms (RFC 6266, 4.3). The second form escapes more than RFC 8187 asks for.
func disposition(name string) string {
	plain := strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || r == '%' {
			return '_'
		}
		return r
	}, name)
	value := mime.FormatMediaType("attachment", map[string]string{"filename": plain})
	if plain != name {
		value += "; filename*=UTF-8''" + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
	}
	return value
}
