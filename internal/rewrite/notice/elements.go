package notice

import (
	"regexp"
	"slices"
	"strings"
)

// An element is an open element of HTML.
type element struct {
	name    string
	unfit   bool // text in it is hidden, or shown in another way
	aside   bool // it has text replied to, or a signature
	quoting bool // it is a quotation of any kind
	class   class
}

// A class has what the rules of HTML say about an element with a name.
type class uint16

const (
	isScope class = 1 << iota // end tags in it close no element around it
	isSpecial
	isTable // or a template
	isTemplate
	isButton
	isList
	isCell
	isRow
	isMarker // formatting elements in it end with it
)

var classes = func() map[string]class {
	m := map[string]class{}
	for c, names := range map[class]map[string]bool{isScope: scopes, isSpecial: special, isTable: set("table template"), isTemplate: set("template"),
		isButton: set("button"), isList: set("ol ul"), isCell: cells, isRow: rows,
		isMarker: union(cells, set("applet marquee object template"))} {
		for name := range names {
			m[name] |= c
		}
	}
	return m
}()

// maxOpen bounds how many nested elements are followed. Browsers follow 512.
const maxOpen = 256

// elements has the open elements of a text, the outermost first. It opens and closes them as
// browsers do (https://html.spec.whatwg.org/multipage/parsing.html#tree-construction), as far as
// that decides whether text is seen: in doubt an unfit element is still open.
type elements struct {
	open                          []element
	unfit, asides, quotes, tables int  // of the open elements
	lost                          bool // there were too many: what is open is no longer known
}

func set(names string) map[string]bool {
	m := map[string]bool{}
	for _, name := range strings.Fields(names) {
		m[name] = true
	}
	return m
}

var (
	void = set("area base basefont bgsound br col embed frame hr img image input keygen link meta param source track wbr")
	// formatting elements end at their own end tags only. If another end tag closes one, browsers
	// open it again.
	formatting = set("a b big code em font i nobr s small strike strong tt u")
	headings   = set("h1 h2 h3 h4 h5 h6")
	cells      = set("td th caption")
	rows       = set("tbody thead tfoot tr")
	// blocks end a line of text, and an open p.
	blocks = set("address article aside blockquote center dd details dialog dir div dl dt fieldset figcaption figure footer form " +
		"h1 h2 h3 h4 h5 h6 header hgroup hr li listing main menu nav ol p plaintext pre search section summary ul xmp")
	// An end tag of another name does not reach beyond these elements.
	special = union(blocks, cells, rows, scopes, set("table colgroup button select textarea iframe noembed noframes noscript script style title"))
	scopes  = set("applet caption desc foreignobject html marquee object select table td template th")

	// unfitTags have content that browsers do not show, or show in another way. The content of
	// pre keeps the notice's line ends.
	unfitTags = set("applet audio button canvas datalist iframe listing map marquee math meter noembed noframes noscript object optgroup option " +
		"plaintext pre progress script select style svg template textarea title video xmp")
)

func union(sets ...map[string]bool) map[string]bool {
	m := map[string]bool{}
	for _, s := range sets {
		for name := range s {
			m[name] = true
		}
	}
	return m
}

// start opens an element. closed reports whether its tag ends in "/>".
func (e *elements) start(one element, closed bool) {
	if e.lost || void[one.name] || closed && (one.name == "svg" || one.name == "math" || e.last("svg", 0) >= 0 || e.last("math", 0) >= 0) {
		return
	}
	one.class = classes[one.name]
	switch name := one.name; {
	case cells[name] || rows[name] || name == "colgroup":
		if !e.startInTable(name) {
			return // browsers ignore it
		}
	case name == "table":
		if e.inTable() {
			e.end("table")
		}
	case name == "li":
		e.endItem("li")
	case name == "dd" || name == "dt":
		e.endItem("dd")
		e.endItem("dt")
	case name == "a" || name == "nobr" || name == "button":
		e.end(name)
	}
	if blocks[one.name] {
		e.closeTo(e.last("p", isScope|isButton))
	}
	if e.open = append(e.open, one); len(e.open) == maxOpen {
		e.lost = true
	}
	e.count(one, 1)
}

// startInTable closes what a part of a table closes. It reports whether a table is open.
func (e *elements) startInTable(name string) bool {
	table := e.last("table", isTemplate)
	if table < 0 {
		return false
	}
	keep := table + 1
	for i := table + 1; i < len(e.open); i++ {
		outer := e.open[i]
		if outer.name == "tr" && cells[name] || outer.class&isRow != 0 && outer.name != "tr" && (name == "tr" || cells[name]) {
			keep = i + 1
		}
	}
	e.closeTo(keep)
	return true
}

// endItem closes an open item of a list, if no list or other block has begun in it.
func (e *elements) endItem(name string) {
	for i := len(e.open) - 1; i >= 0; i-- {
		switch open := e.open[i]; {
		case open.name == name:
			e.closeTo(i)
			return
		case open.class&isSpecial != 0 && open.name != "address" && open.name != "div" && open.name != "p":
			return
		}
	}
}

// end closes the element that an end tag closes, and the elements in it.
func (e *elements) end(name string) {
	switch {
	case e.lost:
	case formatting[name] || name == "form":
		if i := e.last(name, isScope); i >= 0 {
			e.count(e.open[i], -1)
			e.open = slices.Delete(e.open, i, i+1)
		}
	case name == "table" || cells[name] || rows[name]:
		e.closeTo(e.last(name, isTable))
	case name == "p":
		e.closeTo(e.last(name, isScope|isButton))
	case name == "li":
		e.closeTo(e.last(name, isScope|isList))
	case headings[name]:
		for i := len(e.open) - 1; i >= 0 && e.open[i].class&isScope == 0; i-- {
			if headings[e.open[i].name] {
				e.closeTo(i)
				break
			}
		}
	case name == "template":
		e.closeTo(e.last(name, 0))
	case special[name]:
		e.closeTo(e.last(name, isScope))
	default:
		e.closeTo(e.last(name, isSpecial))
	}
}

// last returns the innermost element with this name, or -1 if no such element is open, or if an
// element of the classes is within it.
func (e *elements) last(name string, within class) int {
	for i := len(e.open) - 1; i >= 0; i-- {
		switch open := &e.open[i]; {
		case open.name == name:
			return i
		case open.class&within != 0:
			return -1
		}
	}
	return -1
}

// closeTo closes the elements from index i on; none if i is negative. Like browsers, it opens
// formatting elements again, except for those within a marker that is closed.
func (e *elements) closeTo(i int) {
	if i < 0 || i >= len(e.open) {
		return
	}
	again := e.open[i:i]
	forget := false
	for _, one := range e.open[i:] {
		e.count(one, -1)
		forget = forget || one.class&isMarker != 0
		if (one.unfit || one.name == "a") && formatting[one.name] && !forget {
			e.count(one, 1)
			again = append(again, one)
		}
	}
	e.open = e.open[:i+len(again)]
}

func (e *elements) count(one element, n int) {
	for _, c := range []struct {
		is    bool
		total *int
	}{{one.unfit, &e.unfit}, {one.aside, &e.asides}, {one.quoting, &e.quotes}, {one.name == "table", &e.tables}} {
		if c.is {
			*c.total += n
		}
	}
}

// innermost returns the name of the innermost open element, or "".
func (e *elements) innermost() string {
	if len(e.open) == 0 {
		return ""
	}
	return e.open[len(e.open)-1].name
}

// inTable reports whether the place is in a table, but not in one of its cells.
func (e *elements) inTable() bool {
	if e.tables == 0 {
		return false
	}
	for i := len(e.open) - 1; i >= 0; i-- {
		switch open := e.open[i]; {
		case open.name == "table":
			return true
		case open.class&(isCell|isTemplate) != 0:
			return false
		}
	}
	return false
}

// hiding matches a style, without blanks and in lower case, that hides an element, at least in
// some mail programs.
var hiding = regexp.MustCompile(`(?:^|;)(?:display:none|visibility:(?:hidden|collapse)|mso-hide:all|opacity:0(?:\.0*)?|content-visibility:hidden|` +
	`(?:max-)?(?:height:0|width:\d{1,2})(?:px|pt)?|(?:max-)?(?:height|width):0(?:em|%)|(?:left|top|right|text-indent|margin(?:-left|-top)?):-\d{3,}\w*|clip(?:-path)?:[^;]*|transform:scale\(0[^;]*)(?:!important)?(?:;|$)`)

// unfit reports whether text in an element may be hidden, or shown in another way.
func unfit(name string, attrs map[string]string) bool {
	if unfitTags[name] {
		return true
	}
	if _, open := attrs["open"]; (name == "details" || name == "dialog") && !open {
		return true
	}
	if _, hidden := attrs["hidden"]; hidden {
		return true
	}
	style := compact(attrs["style"])
	return style != "" && (hiding.MatchString(style) || strings.Contains(style, "overflow:hidden") && strings.Contains(style, "height:"))
}

// compact returns a style without blanks, in lower case.
func compact(style string) string {
	return strings.ToLower(strings.Join(strings.Fields(style), ""))
}
