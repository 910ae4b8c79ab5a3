package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"

	"github.com/nkirchhoffer/detach-mta/e2e/servers"
)

// report writes the table and describes the machine.
func report(w io.Writer, o options, loadBefore string, results []result) {
	if o.quick {
		fmt.Fprint(w, "Small sizes, one round, no warm-up: the figures say nothing about Detach.\n\n")
	}
	fmt.Fprintln(w, "| measured; against | ours | theirs | ratio | spread | bar | met |")
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|--:|:-:|")
	for _, r := range results {
		fmt.Fprintln(w, r.line())
	}
	fmt.Fprintf(w, "\nMedians of %d rounds; the ratio is the median of the rounds' ratios, the spread its least and its most (of our figure, where there is no other).\n\n", o.rounds)
	machine(w, loadBefore)
}

func (r result) line() string {
	if r.failure != nil {
		return fmt.Sprintf("| %s | not measured: %s | | | | %s %g | |", r.what, strings.ReplaceAll(r.failure.Error(), "\n", " "), r.bar.sign, r.bar.limit)
	}
	var ours, theirs []float64
	for _, one := range r.rounds {
		ours, theirs = append(ours, one.ours), append(theirs, one.theirs)
	}
	figures := r.figures()
	middle, verdict := median(figures), "no"
	if r.bar.met(middle) {
		verdict = "yes"
	}
	least, most := percentile(figures, 0), percentile(figures, 100)
	ratio, spread := "–", fmt.Sprintf("%.3g–%.3g", least, most)
	limit := fmt.Sprintf("%s %g", r.bar.sign, r.bar.limit)
	if r.compared() {
		ratio, spread = fmt.Sprintf("%.2f", middle), fmt.Sprintf("%.2f–%.2f", least, most)
	} else {
		limit += " " + string(r.unit)
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s |", r.what,
		r.unit.format(median(ours)), r.unit.format(median(theirs)), ratio, spread, limit, verdict)
}

// machine describes the machine and the versions of the programs.
func machine(w io.Writer, loadBefore string) {
	fmt.Fprintf(w, "- %s, %d cores, %s of memory\n", firstMatch("/proc/cpuinfo", `model name\s*: (.*)`), runtime.NumCPU(), firstMatch("/proc/meminfo", `MemTotal:\s*(.*)`))
	fmt.Fprintf(w, "- Linux %s; load average %s before, %s after\n", firstMatch("/proc/sys/kernel/osrelease", `(.*)`), loadBefore, load())
	versions := []string{runtime.Version()}
	for _, program := range [][]string{{"postconf", "-dh", "mail_version"}, {"nginx", "-v"}, {"openssl", "version"}, {"proxsmtpd", "-v"}} {
		versions = append(versions, version(servers.LookPath(program[0]), program...))
	}
	bin, _ := servers.KuboBinary() // empty on an error
	versions = append(versions, version(bin, "kubo", "version", "--number"))
	fmt.Fprintf(w, "- %s\n", strings.Join(versions, "; "))
}

func load() string { return firstMatch("/proc/loadavg", `^(\S+)`) }

// version returns a program's name and version.
func version(path string, program ...string) string {
	if path == "" {
		return "no " + program[0]
	}
	out, err := exec.Command(path, program[1:]...).CombinedOutput()
	if err != nil && len(out) == 0 {
		return program[0] + " of an unknown version"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return program[0] + " " + regexp.MustCompile(`^.*?(\d[\w.]*).*$`).ReplaceAllString(line, "$1")
}

func firstMatch(file, pattern string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	if m := regexp.MustCompile(pattern).FindStringSubmatch(string(text)); m != nil {
		return m[1]
	}
	return "unknown"
}
