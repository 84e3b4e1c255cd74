package dev

// Renewed is what is done after certificates were renewed.
func (f *Fleet) Renewed() error { return f.renewed() }
