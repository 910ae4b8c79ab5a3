package durable

import (
	"io"
	"os"
)

// AppendSynced adds whole lines to a file that is open with O_APPEND, in one write, so that lines of
// two processes do not mix. A line that a crash left unfinished is ended first.
func AppendSynced(f *os.File, lines []byte) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if end > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], end-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			lines = append([]byte{'\n'}, lines...)
		}
	}
	if _, err := f.Write(lines); err != nil {
		return err
	}
	return f.Sync()
}
