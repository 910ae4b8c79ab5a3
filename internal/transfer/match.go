package transfer

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/nkirchhoffer/detach-mta/internal/lines"
)

// A match compares coded text with what a rule writes, and learns the rule from it: the habits, and
// which of several ways to break lines the encoder has.
//
// It only compares what the rule depends on, and the rule only depends on the places that it
// compared. So what the rule learns later changes nothing of what it wrote before.
type match struct {
	habits habits
	breaks []candidate // in the order of preference
	spot   spot
	offset int64 // of the next byte to compare
	closed bool  // no candidate is dropped any more
	quick  int   // no candidate breaks a line before this column,
	words  bool  // except where a word begins
}

// minLimit is the shortest limit that is looked for. Shorter lines, which no encoder in the field
// writes, would make the comparison slow: few of their columns are far from the limit.
const minLimit = 40

// maxCandidates bounds the ways to break lines that are compared beyond the sample. Those that the
// sample does not tell apart are seldom more.
const maxCandidates = 12

// A candidate is a way to break lines that may be the encoder's.
type candidate struct {
	Break
	exceptions []Exception
}

// learn returns the match of text with all ways to break lines that may be those of its encoder.
// sample is how the text begins.
func learn(sample coded) *match {
	v := surveyOf(sample)
	shortest, longest := v.shortest, v.longest
	m := &match{habits: v.habits(), breaks: []candidate{{}}} // that lines are not broken is the simplest
	limits := []int{75}
	if longest != 75 && longest >= minLimit && longest <= maxLimit {
		limits = []int{longest, 75}
	}
	for _, late := range []bool{false, true} {
		for _, last := range [][2]int{{0, 0}, {1, 1}, {1, 0}} {
			for _, unit := range []string{"", unitPHP, unitUTF8} {
				for _, limit := range limits {
					m.add(Break{Kind: breakFill, Limit: limit, Unit: unit, Last: last[0], LastEscape: last[1], Late: late})
				}
			}
		}
	}
	for _, limit := range limits {
		m.add(Break{Kind: breakWord, Limit: limit})
		m.add(Break{Kind: breakWord, Limit: limit, Last: 1, LastEscape: 1})
	}
	m.add(Break{Kind: breakColumn, Limit: 73, Eager: true})
	m.add(Break{Kind: breakColumn, Limit: 73})
	if shortest != 73 && shortest >= minLimit && shortest <= maxLimit {
		m.add(Break{Kind: breakColumn, Limit: shortest, Eager: true})
		m.add(Break{Kind: breakColumn, Limit: shortest})
	}
	m.setQuick()
	return m
}

func (m *match) add(b Break) { m.breaks = append(m.breaks, candidate{Break: b}) }

// A survey counts what an encoder did with the beginning of its text.
type survey struct {
	shortest, longest int // line that ends with a soft line break, in columns; 0: there is none
	// middle, start and afterLF are how often a character was escaped there, or a line broken, less
	// how often it was not.
	middle, start [128]int
	afterLF       int
}

func surveyOf(c coded) (v survey) {
	var s spot
	for i := 0; i < len(c.data); {
		soft, esc := c.how[i]&softBefore != 0, c.how[i]&escaped != 0
		s.next = c.data[i:]
		if soft {
			v.longest = max(v.longest, s.column)
			if v.shortest == 0 || s.column < v.shortest {
				v.shortest = s.column
			}
		}
		if s.afterLF {
			v.afterLF += vote(soft)
		}
		start := soft || s.column == 0
		switch b := c.data[i]; {
		case !optional(b) || lines.IsBlank(b) && i+1 < len(c.data) && (c.data[i+1] == '\r' || c.data[i+1] == '\n'):
		case start && (b != 'F' || bytes.HasPrefix(s.next, []byte("From "))):
			v.start[b] += vote(esc)
		default:
			v.middle[b] += vote(esc)
		}
		i += s.pass(soft, esc)
	}
	return v
}

// optional reports whether an encoder may escape c and may leave it as it is.
func optional(c byte) bool { return c == '\t' || c >= ' ' && c <= '~' && c != '=' }

func vote(yes bool) int {
	if yes {
		return 1
	}
	return -1
}

// habits returns what the survey tells.
func (v *survey) habits() (h habits) {
	tell := func(h *habit, votes int) {
		if votes != 0 {
			h.is(votes > 0)
		}
	}
	for c := range 128 {
		tell(&h.middle[c], v.middle[c])
		tell(&h.start[c], v.start[c])
	}
	tell(&h.afterLF, v.afterLF)
	return h
}

func (m *match) setQuick() {
	m.quick, m.words = maxLimit, false
	for _, b := range m.breaks {
		m.words = m.words || b.Kind == breakWord
		m.quick = min(m.quick, cmp.Or(b.Limit, maxLimit))
	}
}

// prune drops all but the candidates that fit best.
func (m *match) prune() {
	slices.SortStableFunc(m.breaks, func(a, b candidate) int { return cmp.Compare(len(a.exceptions), len(b.exceptions)) })
	m.breaks = m.breaks[:min(len(m.breaks), maxCandidates)]
	m.setQuick()
}

func (m *match) clone() *match {
	next := *m
	next.breaks = slices.Clone(m.breaks)
	return &next
}

// fits reports whether a candidate is left.
func (m *match) fits() bool {
	return slices.ContainsFunc(m.breaks, func(b candidate) bool { return len(b.exceptions) <= MaxExceptions })
}

// compare compares c up to where the rule does not see enough of what follows, or at the end of the
// text all of it. It returns how much that was, and drops the candidates that do not fit. It
// returns false if none is left.
func (m *match) compare(c coded, end bool) (int, bool) {
	m.noteLineEnds(c)
	i, stop, ok := 0, len(c.data), true
	if !end {
		stop -= lookahead
	}
	for i < stop && ok {
		n := m.same(c, i, stop)
		if n == 0 {
			m.spot.next, m.spot.how = c.data[i:min(len(c.data), i+lookahead)], c.how[i:]
			m.spot.end = i+len(m.spot.next) == len(c.data) && end
			n, ok = m.one()
		}
		i, m.offset = i+n, m.offset+int64(n)
	}
	m.spot.next, m.spot.how = nil, nil
	return i, ok
}

// same returns how many bytes, from i on, stand as they are in the text and by every rule.
func (m *match) same(c coded, i, stop int) int {
	n := m.habits.run(&m.spot, c.data[i:stop], m.quick)
	for k, how := range c.how[i : i+n] {
		if how != 0 {
			n = k
			break
		}
	}
	m.spot.column += n
	return n
}

// one compares the next byte, or a line end of two, and drops the candidates that do not fit.
func (m *match) one() (int, bool) {
	s := &m.spot
	soft, esc := s.how[0]&softBefore != 0, s.how[0]&escaped != 0
	s.look(&m.habits)
	other := s.escaped != esc
	if soft {
		other = m.habits.escapes(s, 0, 0) != esc
	}
	early := s.column+maxUnit <= m.quick && !s.afterLF // only words are broken so early
	if !soft && !other && early && !(s.afterBlank && m.words) {
		return s.pass(soft, esc), true
	}
	before := len(m.breaks)
	for i := 0; i < len(m.breaks); i++ {
		b := &m.breaks[i]
		broken := (!early || b.Kind == breakWord) && b.before(&m.habits, s)
		if broken == soft && !other {
			continue
		}
		b.exceptions = append(b.exceptions, Exception{At: m.offset, Soft: soft, Escaped: esc})
		if len(b.exceptions) > MaxExceptions && !m.closed {
			m.breaks = slices.Delete(m.breaks, i, i+1)
			i--
		}
	}
	if len(m.breaks) < before {
		m.setQuick()
	}
	return s.pass(soft, esc), len(m.breaks) > 0
}

// noteLineEnds learns which line ends stand as they are, before the rule looks for them.
func (m *match) noteLineEnds(c coded) {
	for i, b := range c.data {
		isEscaped := c.how[i]&escaped != 0
		switch {
		case b != '\n':
		case i > 0 && c.data[i-1] == '\r' && !isEscaped && c.how[i-1]&escaped == 0:
			m.habits.crlf.is(true)
		case i > 0 && c.data[i-1] == '\r' && c.how[i-1]&escaped != 0:
			m.habits.crlf.is(false)
			m.habits.lf.is(!isEscaped)
		default:
			m.habits.lf.is(!isEscaped)
		}
	}
}

// layout returns the layout of the text, of which m compared all. text is where it ends.
func (m *match) layout(text quotedText) Layout {
	best := slices.MinFunc(m.breaks, func(a, b candidate) int { return cmp.Compare(len(a.exceptions), len(b.exceptions)) })
	h := &m.habits
	best.AfterLF = h.afterLF == yes
	return Layout{
		Encoding: Quoted,
		Rule: &Rule{
			Lower: text.lower, CRLF: h.crlf == yes, LF: h.lf == yes, Escape: characters(&h.middle), Start: characters(&h.start),
			Trail: h.trail == yes, Soft: text.softEnd, Break: best.Break,
		},
		Exceptions: best.exceptions,
		Tail:       text.tail(),
	}
}
