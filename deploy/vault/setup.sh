#!/usr/bin/env bash
# Prepares a Vault for Freehold: engines, policies, roles. It may be run again:
# what is there stays, policies and roles are brought up to date.
#
#   VAULT_ADDR=https://vault:8200 VAULT_TOKEN=… deploy/vault/setup.sh [DIR]
#
# With DIR, the AppRole IDs of both planes are written there (mode 0600), with a
# new secret ID each. No secret is on a command line.
#
#   VAULT_NAMESPACE, VAULT_CACERT   as Vault's own client takes them
#   KV, TRANSIT, PKI, APPROLE       names of the mounts (freehold, transit, pki, approle)
#   TOKEN_TTL, TOKEN_MAX_TTL        of the planes' tokens (1h, 24h)
#   SECRET_ID_TTL                   of a secret ID (0: for ever; then rotate it yourself)
#   PKI_DOMAINS                     domains that certificates may be for, with commas
#                                   between; when set, the PKI engine gets its roles (it
#                                   must have an issuer, or PKI_ROOT=1 makes one)
#   KUBERNETES_HOST                 when set, Kubernetes auth is enabled for the service
#                                   accounts freehold-controlplane and freehold-dataplane
#                                   of the namespace KUBERNETES_NAMESPACE (freehold);
#                                   KUBERNETES_CA_FILE when Vault is not in that cluster
set -euo pipefail
cd "$(dirname "$0")"
: "${VAULT_ADDR:?where is Vault?}" "${VAULT_TOKEN:?a token that may set it up}"
KV=${KV:-freehold} TRANSIT=${TRANSIT:-transit} PKI=${PKI:-pki} APPROLE=${APPROLE:-approle}
TOKEN_TTL=${TOKEN_TTL:-1h} TOKEN_MAX_TTL=${TOKEN_MAX_TTL:-24h} SECRET_ID_TTL=${SECRET_ID_TTL:-0}
out=${1:-}

# call METHOD PATH [BODY]: the answer's body; fails on any other status than 2xx.
call() {
  local status body
  body=$(curl -sS --max-time 20 ${VAULT_CACERT:+--cacert "$VAULT_CACERT"} -X "$1" -w '\n%{http_code}' \
    -H @<(printf 'X-Vault-Token: %s\n' "$VAULT_TOKEN"; [ -z "${VAULT_NAMESPACE:-}" ] || printf 'X-Vault-Namespace: %s\n' "$VAULT_NAMESPACE") \
    ${3:+--data-binary @<(printf '%s' "$3")} "$VAULT_ADDR/v1/$2")
  status=${body##*$'\n'} body=${body%$'\n'*}
  case $status in
    2*) printf '%s' "$body" ;;
    *) echo "setup.sh: $1 $2: $status: $body" >&2; return 1 ;;
  esac
}

# enable PATH BODY: a mount, unless it is there.
enable() {
  call GET "sys/$1/tune" >/dev/null 2>&1 || call POST "sys/$1" "$2" >/dev/null
}

# field NAME: of an answer, a plain string.
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

enable "mounts/$KV" '{"type":"kv","options":{"version":"2"},"description":"Freehold: logins"}'
enable "mounts/$TRANSIT" '{"type":"transit","description":"Freehold: one key per tenant"}'
enable "auth/$APPROLE" '{"type":"approle"}'
# An old password is of no use: two versions are enough to see what happened.
for _ in 1 2 3 4 5 6 7 8 9 10; do # a new engine of version 2 needs a moment
  if call POST "$KV/config" '{"max_versions":2}' >/dev/null 2>&1; then break; fi
  sleep 1
done
call GET "$KV/config" >/dev/null

for plane in controlplane dataplane; do
  policy=$(sed -e "s#\"KV/#\"$KV/#; s#\"TRANSIT/#\"$TRANSIT/#; s#\"PKI/#\"$PKI/#" -e 's/\\/\\\\/g; s/"/\\"/g' "$plane.hcl" | sed -e ':a;N;$!ba;s/\n/\\n/g')
  call PUT "sys/policies/acl/freehold-$plane" "{\"policy\":\"$policy\"}" >/dev/null
  call POST "auth/$APPROLE/role/freehold-$plane" \
    "{\"token_policies\":\"freehold-$plane\",\"token_no_default_policy\":false,\"token_ttl\":\"$TOKEN_TTL\",\"token_max_ttl\":\"$TOKEN_MAX_TTL\",\"secret_id_ttl\":\"$SECRET_ID_TTL\",\"bind_secret_id\":true}" >/dev/null
  if [ -n "$out" ]; then
    mkdir -p "$out"
    (
      umask 077
      call GET "auth/$APPROLE/role/freehold-$plane/role-id" | field role_id >"$out/$plane.role_id"
      call POST "auth/$APPROLE/role/freehold-$plane/secret-id" '{}' | field secret_id >"$out/$plane.secret_id"
    )
  fi
  if [ -n "${PKI_DOMAINS:-}" ]; then
    enable "mounts/$PKI" '{"type":"pki","config":{"max_lease_ttl":"87600h"},"description":"Freehold: certificates"}'
    if [ -n "${PKI_ROOT:-}" ] && [ -z "$(call GET "$PKI/ca/pem")" ]; then
      call POST "$PKI/root/generate/internal" '{"common_name":"Freehold","key_type":"ec","ttl":"87600h"}' >/dev/null
    fi
    call POST "$PKI/roles/freehold-$plane" \
      "{\"allowed_domains\":\"$PKI_DOMAINS\",\"allow_bare_domains\":true,\"allow_subdomains\":true,\"allow_ip_sans\":true,\"key_type\":\"ec\",\"max_ttl\":\"720h\",\"server_flag\":true,\"client_flag\":true}" >/dev/null
  fi
  if [ -n "${KUBERNETES_HOST:-}" ]; then
    enable auth/kubernetes '{"type":"kubernetes"}'
    ca=
    if [ -n "${KUBERNETES_CA_FILE:-}" ]; then
      ca=",\"disable_local_ca_jwt\":true,\"kubernetes_ca_cert\":\"$(sed -e ':a;N;$!ba;s/\n/\\n/g' "$KUBERNETES_CA_FILE")\""
    fi
    call POST auth/kubernetes/config "{\"kubernetes_host\":\"$KUBERNETES_HOST\"$ca}" >/dev/null
    call POST "auth/kubernetes/role/freehold-$plane" \
      "{\"bound_service_account_names\":\"freehold-$plane\",\"bound_service_account_namespaces\":\"${KUBERNETES_NAMESPACE:-freehold}\",\"token_policies\":\"freehold-$plane\",\"token_ttl\":\"$TOKEN_TTL\",\"token_max_ttl\":\"$TOKEN_MAX_TTL\"}" >/dev/null
  fi
done
echo "Vault is ready for Freehold: policies and roles freehold-controlplane, freehold-dataplane${out:+; IDs in $out}"
