package rest

import "cmp"

// The bounds of a request are its tenant's where it has some, else the handler's.

func (h *Handler) maxBody(id Identity) int64   { return cmp.Or(id.Limits.MaxBody, h.opts.MaxBody) }
func (h *Handler) maxAnswer(id Identity) int64 { return cmp.Or(id.Limits.MaxAnswer, h.opts.MaxAnswer) }

// bound sets what a request may have back.
func (h *Handler) bound(req *request, id Identity) {
	req.MaxRows = max(0, int64(cmp.Or(id.Limits.MaxRows, h.opts.MaxRows)))
	req.Answer.MaxBytes = h.maxAnswer(id)
}
