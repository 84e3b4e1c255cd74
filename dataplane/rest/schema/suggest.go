package schema

import "strings"

// maxSuggest bounds the names compared, so that a misspelt request stays cheap.
const maxSuggest = 2000

// nearest picks the name with the smallest edit distance to want, if that is at
// most a third of want's length (and at least 1); of equals the first by name.
func nearest(want string, names []string) (string, bool) {
	if len(want) > 63 { // longer than any name
		return "", false
	}
	folded := strings.ToLower(want)
	best, bestDistance := "", (len(want)+2)/3+1
	for _, name := range names[:min(len(names), maxSuggest)] {
		d := distance(folded, strings.ToLower(name), bestDistance)
		if d < bestDistance || d == bestDistance && best != "" && name < best {
			best, bestDistance = name, d
		}
	}
	return best, best != ""
}

// distance is Levenshtein's over bytes, or any larger number once it exceeds most.
func distance(a, b string, most int) int {
	if d := len(a) - len(b); d > most || -d > most {
		return most + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
