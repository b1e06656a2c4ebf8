package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// table is rows of cells under a head. Widths are those that a terminal shows, not bytes.
type table struct {
	head []string // may be empty
	rows [][]string
}

const between = "  "

func (t table) widths() []int {
	var w []int
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			if i == len(w) {
				w = append(w, 0)
			}
			w[i] = max(w[i], ansi.StringWidth(cell))
		}
	}
	return w
}

func (t table) width() int {
	all := 0
	for _, w := range t.widths() {
		all += w + len(between)
	}
	return all - len(between)
}

func (t table) print(to io.Writer) {
	widths := t.widths()
	rows := t.rows
	if len(t.head) > 0 {
		rows = append([][]string{t.head}, rows...)
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", widths[i]-ansi.StringWidth(cell)) + between)
		}
		fmt.Fprintln(to, strings.TrimRight(line.String(), " "))
	}
}

// list prints each row as lines of "head  cell", for terminals that are too narrow. Empty cells are left out.
func (t table) list(to io.Writer) {
	for i, row := range t.rows {
		if i > 0 {
			fmt.Fprintln(to)
		}
		var pairs table
		for j, cell := range row {
			if cell != "" && cell != "-" {
				pairs.rows = append(pairs.rows, []string{strings.ToLower(t.head[j]), cell})
			}
		}
		pairs.print(to)
	}
}
