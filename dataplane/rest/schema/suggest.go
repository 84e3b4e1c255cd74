package schema

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"
)

const (
	// maxSuggest bounds the names compared, so that a misspelt request stays
	// cheap; where there are more, nothing is suggested.
	maxSuggest = 500
	// maxCompared bounds the names whose distance is computed.
	maxCompared = 50
	// likely is the least similarity of names that are shown to whoever asks
	// for others, and akin that of names which the one who asks may see anyway.
	likely, akin = 0.75, 0.33
)

// nearest picks the name most similar to want, if that is at least as similar
// as least, between 0 and 1; of equals the first by name. As PostgREST does, it
// compares by common sequences of three (or else two) letters first, and those
// that have some by the number of edits.
func nearest(want string, names []string, least float64) (best string, score float64) {
	if len(names) >= maxSuggest || len(want) > 1000 {
		return "", 0
	}
	folded := strings.ToLower(want)
	names = slices.Clone(names)
	slices.Sort(names)
	for _, name := range names {
		if strings.ToLower(name) == folded {
			return name, 1
		}
	}
	for _, size := range [...]int{3, 2} {
		for _, name := range sharing(folded, names, size) {
			if s := similarity(folded, strings.ToLower(name)); s >= least && s > score {
				best, score = name, s
			}
		}
		if best != "" {
			return best, score
		}
	}
	return "", 0
}

// sharing are the names with a sequence in common with folded, the most similar first.
func sharing(folded string, names []string, size int) []string {
	type candidate struct {
		name   string
		cosine float64
	}
	var found []candidate
	wanted := sequences(folded, size)
	for _, name := range names {
		dot, norm := 0, 0
		for sequence, n := range sequences(strings.ToLower(name), size) {
			dot, norm = dot+n*wanted[sequence], norm+n*n
		}
		if dot > 0 {
			found = append(found, candidate{name, float64(dot) / math.Sqrt(float64(norm))})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(b.cosine, a.cosine) })
	out := make([]string, min(len(found), maxCompared))
	for i := range out {
		out[i] = found[i].name
	}
	return out
}

// sequences counts the sequences of size letters in a name, whose ends are dashes.
func sequences(name string, size int) map[string]int {
	letters := []rune{'-'}
	for _, r := range name {
		if unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsSpace(r) || r == ',' {
			letters = append(letters, r)
		}
	}
	letters = append(letters, '-')
	counts := make(map[string]int, len(letters))
	for i := 0; i+size <= len(letters); i++ {
		counts[string(letters[i:i+size])]++
	}
	return counts
}

// similarity is 1 less the edits it takes, per letter of the longer one.
func similarity(a, b string) float64 {
	x, y := []rune(a), []rune(b)
	longer := max(len(x), len(y))
	if longer == 0 {
		return 1
	}
	return 1 - float64(distance(x, y))/float64(longer)
}

// distance is Levenshtein's.
func distance(a, b []rune) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
