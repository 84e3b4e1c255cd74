package sqlhttp

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/freehold-db/freehold/dataplane/fault"
)

// leading and, after the request's own, trailing statements of a pipeline are ours and not answered.
const leading = 2

// writer makes the answer's JSON from the rows as they come in.
type writer struct {
	req     *request
	maxRows int
	most    int64

	out       []byte
	statement int // index of the statement whose answer is due; negative: one of ours before
	fields    []pgproto3.FieldDescription
	hidden    []bool // columns whose name a later one has, too: an object has it once
	rows      int
	begun     bool  // something of the statement's answer is written
	over      error // why there is no answer although everything was done
}

func newWriter(req *request, maxRows int, most int64) *writer {
	w := &writer{req: req, maxRows: maxRows, most: most, statement: -leading}
	if req.batch {
		w.out = append(w.out, `{"results":[`...)
	}
	return w
}

// mine tells whether the statement is the request's.
func (w *writer) mine() bool { return w.statement >= 0 && w.statement < len(w.req.statements) }

func (w *writer) arrays() bool {
	if own := w.req.statements[w.statement].arrays; own != nil {
		return *own
	}
	return w.req.arrays
}

func (w *writer) describe(fields []pgproto3.FieldDescription) {
	if !w.mine() {
		return
	}
	w.fields, w.hidden = make([]pgproto3.FieldDescription, len(fields)), make([]bool, len(fields))
	last := map[string]int{}
	for i, f := range fields {
		f.Name = bytes.Clone(f.Name)
		w.fields[i] = f
		if before, twice := last[string(f.Name)]; twice {
			w.hidden[before] = true
		}
		last[string(f.Name)] = i
	}
}

// begin opens the statement's object up to its rows. It tells whether there is still room for them.
func (w *writer) begin() bool {
	if w.begun {
		return true
	}
	w.begun = true
	if w.statement > 0 {
		w.out = append(w.out, ',')
	}
	w.out = append(w.out, `{"fields":[`...)
	for i, f := range w.fields {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.out = append(w.out, `{"name":`...)
		w.out = quote(w.out, f.Name)
		w.out = fmt.Appendf(w.out, `,"dataTypeID":%d,"tableID":%d,"columnID":%d,"dataTypeSize":%d,"dataTypeModifier":%d,"format":"text"}`,
			f.DataTypeOID, f.TableOID, f.TableAttributeNumber, f.DataTypeSize, f.TypeModifier)
	}
	w.out = append(w.out, `],"rows":[`...)
	return w.fits(0)
}

// fits gives the answer up when so many bytes more are too many.
func (w *writer) fits(more int) bool {
	if int64(len(w.out))+int64(more) <= w.most {
		return true
	}
	w.tooMuch(fmt.Sprintf("The answer is longer than %d bytes", w.most))
	return false
}

func (w *writer) row(values [][]byte) {
	if !w.mine() || w.over != nil {
		return
	}
	if !w.begin() {
		return
	}
	if w.rows++; w.rows > w.maxRows {
		w.tooMuch(fmt.Sprintf("A statement returned more than %d rows", w.maxRows))
		return
	}
	if w.rows > 1 {
		w.out = append(w.out, ',')
	}
	arrays, first := w.arrays(), true
	w.out = append(w.out, open[arrays])
	for i, v := range values {
		if !arrays && w.hidden[i] {
			continue
		}
		if !first {
			w.out = append(w.out, ',')
		}
		first = false
		if !w.fits(len(v)) { // before it is quoted, which can make it six times as long
			return
		}
		if !arrays {
			w.out = quote(w.out, w.fields[i].Name)
			w.out = append(w.out, ':')
		}
		switch {
		case v == nil:
			w.out = append(w.out, "null"...)
		case w.req.rawText:
			w.out = quote(w.out, v)
		default:
			w.out = typed(w.out, w.fields[i].DataTypeOID, v)
		}
		if !w.fits(0) {
			return
		}
	}
	w.out = append(w.out, shut[arrays])
}

var open, shut = map[bool]byte{true: '[', false: '{'}, map[bool]byte{true: ']', false: '}'}

// tooMuch drops the answer; the transaction goes on to its end.
func (w *writer) tooMuch(message string) {
	w.out = nil
	w.over = fault.New(http.StatusBadRequest, "answer_too_large", message).WithHint("Ask for fewer rows (LIMIT) or columns.")
}

// complete ends a statement with its command tag; without one it was empty, or
// returned as many rows as it was asked for.
func (w *writer) complete(tag []byte) {
	defer func() { w.statement++ }()
	if !w.mine() {
		return
	}
	if w.over == nil && w.begin() {
		command, count := commandOf(tag)
		w.out = append(w.out, `],"command":`...)
		w.out = quote(w.out, command)
		w.out = append(w.out, `,"rowCount":`...)
		w.out = append(w.out, count...)
		w.out = strconv.AppendBool(append(w.out, `,"rowAsArray":`...), w.arrays())
		w.out = append(w.out, '}')
	}
	w.fields, w.hidden, w.rows, w.begun = nil, nil, 0, false
}

// commandOf splits a tag such as "INSERT 0 5" into the command and the rows it counts, or null.
func commandOf(tag []byte) (command, count []byte) {
	words := bytes.Fields(tag)
	if len(words) == 0 {
		return nil, []byte("null")
	}
	if last := words[len(words)-1]; last[0] >= '0' && last[0] <= '9' {
		return words[0], last
	}
	return words[0], []byte("null")
}

// finish is the whole answer, of a transaction that was committed.
func (w *writer) finish(readOnly bool) ([]byte, error) {
	if w.over != nil {
		if f := fault.From(w.over); !readOnly {
			return nil, f.WithDetails("The statements were executed and committed.")
		}
		return nil, w.over
	}
	if w.req.batch {
		w.out = append(w.out, "]}"...)
	}
	return w.out, nil
}

// quote writes text as a JSON string. What is not UTF-8 (the server's encoding
// may be another) becomes the replacement character.
func quote(out, text []byte) []byte {
	out, _ = jsontext.AppendQuote(out, text) // its error says that there was something to replace
	return out
}
