package lines

import (
	"bytes"
	"strings"
	"testing"
)

func TestIndexFindsTheFirstLineThatBeginsWith(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int
	}{
		{"", -1}, {".", -1}, {"\n", -1}, {"\n.", 1}, {"\r\n.", 2}, {"\r.", -1}, {"x.\n.", 3}, {".\n.", 2},
		{"...\n\n.\n.", 5}, {"a.b.c\nd.e\nf\n.g", 12}, {"a.b.c\nd.e\nf\n g.", -1},
		{strings.Repeat("x", 1000) + "\n" + strings.Repeat(".", 1000), 1001},
	} {
		if got := Index([]byte(tt.in), '.'); got != tt.want {
			t.Errorf("Index(%q) = %d, want %d", tt.in, got, tt.want)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte("a.b\n.c\n.\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		want := bytes.Index(b, []byte("\n."))
		if want >= 0 {
			want++
		}
		if got := Index(b, '.'); got != want {
			t.Errorf("Index(%q) = %d, want %d", b, got, want)
		}
	})
}

func BenchmarkIndex(b *testing.B) {
	for name, line := range map[string]string{
		"base64":   strings.Repeat("QUJD", 19) + "\r\n",
		"text":     "One sentence. And another one, so that there are some dots. Three.\r\n",
		"all dots": "x............................................................................\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			text := bytes.Repeat([]byte(line), (32<<10)/len(line))
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if Index(text, '.') >= 0 {
					b.Fatal("found")
				}
			}
		})
	}
}
