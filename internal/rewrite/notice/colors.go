package notice

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// minContrast is the contrast of text that can be read well (WCAG 2.2, success criterion 1.4.3).
const minContrast = 4.5

// colors has the luminance of a body's text and background, from 0 for black to 1 for white.
type colors struct{ text, background float64 }

// unreadable reports whether text in the body's own colors cannot be read. The texts of such a mail
// are in tables with other colors.
func (c colors) unreadable() bool {
	return (max(c.text, c.background)+.05)/(min(c.text, c.background)+.05) < minContrast
}

var (
	bodyRule = regexp.MustCompile(`(?i)(?:^|[,{}\s])body\s*(?:,[^{}]*)?\{([^{}]*)\}`)
	hexColor = regexp.MustCompile(`^#?([0-9a-f]{3}|[0-9a-f]{6})$`)
	rgbColor = regexp.MustCompile(`^rgba?\((\d{1,3}),(\d{1,3}),(\d{1,3})[,)]`)
)

// set reads the declarations of a style.
func (c *colors) set(style string) {
	for _, declaration := range strings.Split(compact(style), ";") {
		property, value, _ := strings.Cut(strings.TrimSuffix(declaration, "!important"), ":")
		switch property {
		case "color":
			luminance(&c.text, value)
		case "background", "background-color":
			luminance(&c.background, value)
		}
	}
}

// luminance sets l to the relative luminance of a color. If it does not know the color, l stays as
// it is.
func luminance(l *float64, color string) {
	var rgb [3]float64
	switch color = strings.ToLower(strings.TrimSpace(color)); {
	case color == "white":
		color = "#fff"
	case color == "black":
		color = "#000"
	}
	if m := hexColor.FindStringSubmatch(color); m != nil {
		width := len(m[1]) / 3
		for i := range rgb {
			v, _ := strconv.ParseUint(strings.Repeat(m[1][i*width:(i+1)*width], 3-width), 16, 8)
			rgb[i] = float64(v) / 255
		}
	} else if m := rgbColor.FindStringSubmatch(color); m != nil {
		for i := range rgb {
			v, _ := strconv.Atoi(m[i+1])
			rgb[i] = float64(min(v, 255)) / 255
		}
	} else {
		return
	}
	for i, v := range rgb {
		if rgb[i] = v / 12.92; v > .04045 {
			rgb[i] = math.Pow((v+.055)/1.055, 2.4)
		}
	}
	*l = .2126*rgb[0] + .7152*rgb[1] + .0722*rgb[2]
}
