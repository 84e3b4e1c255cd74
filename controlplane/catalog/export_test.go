package catalog

// ForgetPlans is what keeping a plan does in passing.
var ForgetPlans = forgetPlans
