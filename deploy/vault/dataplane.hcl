# What a data-plane node may do in Vault: read the tenants' logins. No login of
# a shard's admin, no tenant's key, no list of anything. KV and PKI stand for
# the mounts; setup.sh fills them in.

path "KV/data/databases/*" {
  capabilities = ["read"]
}

# Its own certificates.
path "PKI/sign/freehold-dataplane" {
  capabilities = ["update"]
}
