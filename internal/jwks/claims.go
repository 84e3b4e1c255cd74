package jwks

// ClaimAt finds a token's claim by its path: names with dots between. A name that
// has dots itself, as providers' namespaces do, is found before it is taken apart.
// nil if there is none.
func ClaimAt(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok {
		return v
	}
	for i := range len(path) {
		if path[i] != '.' {
			continue
		}
		if inner, ok := claims[path[:i]].(map[string]any); ok {
			return ClaimAt(inner, path[i+1:])
		}
	}
	return nil
}
