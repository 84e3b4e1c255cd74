# What the control plane may do in Vault. KV, TRANSIT and PKI stand for
# the mounts; setup.sh fills them in.

# All logins: it makes, rotates and removes them.
path "KV/data/*" {
  capabilities = ["create", "read", "update"]
}
path "KV/metadata/*" {
  capabilities = ["read", "delete"]
}

# Which keys were destroyed is written once, and neither changed nor removed.
path "KV/data/destroyed/*" {
  capabilities = ["create", "read"]
}
path "KV/metadata/destroyed/*" {
  capabilities = ["deny"]
}

# One key per tenant. Keys can't be read, exported, backed up or restored.
path "TRANSIT/keys/+" {
  capabilities = ["create", "read", "update", "delete"]
}
path "TRANSIT/keys/+/rotate" {
  capabilities = ["update"]
}
path "TRANSIT/keys/+/config" {
  capabilities       = ["update"]
  allowed_parameters = {
    "deletion_allowed" = [true]
  }
}
path "TRANSIT/datakey/plaintext/+" {
  capabilities = ["update"]
}
path "TRANSIT/decrypt/+" {
  capabilities = ["update"]
}
path "TRANSIT/rewrap/+" {
  capabilities = ["update"]
}

# Its own certificates.
path "PKI/sign/freehold-controlplane" {
  capabilities = ["update"]
}
