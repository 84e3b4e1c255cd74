package plan

import "github.com/freehold-db/freehold/dataplane/rest/schema"

// Related calls visit with each relation that the plan reads although the
// request's verb does not say so: those embedded, those between, those by which
// a write finds its rows, and the one that is written to when its rows are
// answered with. It stops at the first error.
func (p *Plan) Related(visit func(schema.Name) error) error {
	if p.Write != nil && p.Answer.Body {
		if err := visit(p.Read.From.Name); err != nil {
			return err
		}
	}
	if err := relatedBy(p.filters(), visit); err != nil {
		return err
	}
	return p.Read.related(visit)
}

// filters are what a write finds its rows by: they stay when nothing is answered with.
func (p *Plan) filters() []Predicate {
	switch op := p.Write.(type) {
	case *Update:
		return op.Where
	case *Delete:
		return op.Where
	}
	return nil
}

// relatedBy visits the resources whose rows predicates ask for.
func relatedBy(predicates []Predicate, visit func(schema.Name) error) error {
	for _, p := range predicates {
		var err error
		switch p := p.(type) {
		case *Junction:
			err = relatedBy(p.Terms, visit)
		case *Existence:
			err = p.Of.related(visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Read) related(visit func(schema.Name) error) error {
	for _, e := range r.Embeds {
		if err := e.related(visit); err != nil {
			return err
		}
	}
	return nil
}

func (e *Embed) related(visit func(schema.Name) error) error {
	if j := e.By.Junction; j != nil {
		if err := visit(j.Relation.Name); err != nil {
			return err
		}
	}
	if err := visit(e.Read.From.Name); err != nil {
		return err
	}
	return e.Read.related(visit)
}
