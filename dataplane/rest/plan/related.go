package plan

import "github.com/freehold-db/freehold/dataplane/rest/schema"

// Related calls visit with each relation that the plan reads although the
// request's verb does not say so: those embedded, those between, and the one that
// is written to when its rows are answered with. It stops at the first error.
func (p *Plan) Related(visit func(schema.Name) error) error {
	if p.Write != nil && p.Answer.Body {
		if err := visit(p.Read.From.Name); err != nil {
			return err
		}
	}
	return p.Read.related(visit)
}

func (r *Read) related(visit func(schema.Name) error) error {
	for _, e := range r.Embeds {
		if j := e.By.Junction; j != nil {
			if err := visit(j.Relation.Name); err != nil {
				return err
			}
		}
		if err := visit(e.Read.From.Name); err != nil {
			return err
		}
		if err := e.Read.related(visit); err != nil {
			return err
		}
	}
	return nil
}
