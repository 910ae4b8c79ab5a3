package charsets

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/nkirchhoffer/detach-mta/internal/test/faults"
	"github.com/nkirchhoffer/detach-mta/internal/test/must"
)

// A strict decoder of the declared charset reads what Encode writes in the same way.
func TestPythonReadsWhatIsEncoded(t *testing.T) {
	faults.Covers(t, 69)
	python, err := exec.LookPath("python3")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("python3 is not installed")
	}
	// Python takes the other one of two similar characters.
	same := strings.NewReplacer("‖", "∥", "−", "－", "〜", "～", "¢", "￠", "£", "￡", "¬", "￢", "―", "—", "‾", "¯", "•", "‧", "／", "∕", "♁", "⊕", "☉", "⊙")
	encoded := map[string][][]byte{}
	chars := map[string][]string{}
	for _, label := range []string{
		"iso-8859-1", "iso-8859-2", "iso-8859-7", "iso-8859-8", "iso-8859-9", "iso-8859-15", "windows-1250", "windows-1251", "windows-1252",
		"koi8-r", "tis-620", "gb2312", "gbk", "gb18030", "hz", "big5", "euc-kr", "cp949", "shift_jis", "cp932", "euc-jp", "iso-2022-jp",
	} {
		c, ok := Find(label)
		if !ok {
			t.Fatalf("%s is not known", label)
		}
		for r := rune(' '); r < 0xE000; r++ { // up to the characters for private use
			if b, ok := c.Encode(string(r)); ok {
				encoded[label], chars[label] = append(encoded[label], b), append(chars[label], string(r))
			}
		}
	}
	in, err := json.Marshal(encoded)
	must.Succeed(t, err)
	cmd := exec.Command(python, "-c", `import json, sys, base64
print(json.dumps({c: [base64.b64decode(b).decode(c, "replace") for b in bs] for c, bs in json.load(sys.stdin).items()}))`)
	cmd.Stdin = strings.NewReader(string(in))
	out, err := cmd.Output()
	must.Succeed(t, err)
	var decoded map[string][]string
	must.Succeed(t, json.Unmarshal(out, &decoded))
	for label, want := range chars {
		wrong := 0
		for i, got := range decoded[label] {
			if same.Replace(got) != same.Replace(want[i]) {
				if wrong++; wrong < 9 {
					t.Logf("%s: % x is %q for Python, want %q (%U)", label, encoded[label][i], got, want[i], []rune(want[i])[0])
				}
			}
		}
		if wrong > 0 || len(decoded[label]) < 100 {
			t.Errorf("%s: %d of %d", label, wrong, len(decoded[label]))
		}
	}
}

func TestCharsetsOf7BitsAreRecognized(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "",
		"Hello":                           "",
		"caf\xe9":                         "",
		"日本":                              "",
		"\x1b$B$*$O\x1b(B":                "iso-2022-jp",
		"\x1b$@$*$O\x1b(J":                "iso-2022-jp",
		"\x1b$)C\x0e:80m<-\x0f":           "iso-2022-kr",
		"\x1b$)A\x0e2FNq\x0f":             "iso-2022-cn",
		"\x1b.A\x1bNi":                    "iso-2022",
		"\x1b[31mred\x1b[0m":              "",
		"~{2FNq1(8f~}":                    "hz-gb-2312",
		"~{x} ~":                          "",
		"~~":                              "",
		"Gr+APwA3w-e":                     "utf-7",
		"+bUuL1Q":                         "utf-7",
		"1+1=2, C++, a+b, +49-89, a+-b":   "",
		"ann+list@example.org, x +y- z":   "",
		"+-":                              "",
		"The password is ab+AOk-, or a+b": "",
	} {
		if got := Seven(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// Labels that name no charset count as no label.
func TestLabelsAreUnderstood(t *testing.T) {
	for label, want := range map[string]string{
		"UTF-8": "utf-8", "utf_8": "utf-8", " utf8 ": "utf-8", "utf-8*en": "utf-8", "'utf-8'": "utf-8", "ANSI_X3.4-1968": "us-ascii",
		"ISO_8859-1:1987": "iso-8859-1", "iso885915": "iso-8859-15", "iso-8859-8-i": "iso-8859-8", "csISOLatin1": "iso-8859-1", "cp-1252": "windows-1252",
		"x-cp1251": "windows-1251", "win-1250": "windows-1250", "866": "ibm866", "cp65001": "utf-8", "x-sjis": "shift_jis",
		"unknown-8bit": "", "x-unknown": "", "": "", "x-none-such": "x-none-such", strings.Repeat("x", 1000): strings.Repeat("x", 1000),
	} {
		if got := Name(label); got != want {
			t.Errorf("%q: got %q, want %q", label, got, want)
		}
	}
}
