package adminapi

// RefuseProofs has the API find that too many ask for proofs.
func (a *API) RefuseProofs() {
	a.proofs.SetLimit(0)
	a.proofs.SetBurst(0)
}
