package tenantdb

// Groups of logins of all tenants, for pg_hba.conf to tell them by. They can't
// log in, own nothing and may do nothing.
const (
	// TenantLogins are the platform's own logins to tenants' databases, which come through PgBouncer only.
	TenantLogins = "freehold_tenant_logins"
	// People are the temporary logins of people, who come by themselves.
	People = "freehold_people"
)
