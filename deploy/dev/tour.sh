#!/usr/bin/env bash
# Starts the development fleet in ./.dev if none runs, and shows that it works:
# a tenant is made, a row is written and read over its REST API.
#
#   deploy/dev/tour.sh PATH-OF-TENANT-OPS
set -euo pipefail

ops=$1
tenant=acme
step() { printf '\n\033[1m%s\033[0m\n' "$*"; }

if "$ops" dev status >/dev/null 2>&1; then
  step "A fleet is running in ${TENANT_OPS_DIR:-.dev}"
else
  step 'Starting a fleet'
  "$ops" dev --detach
fi
"$ops" dev status

if "$ops" tenant show "$tenant" >/dev/null 2>&1; then
  step "Tenant $tenant is there from before"
  "$ops" tenant show "$tenant"
else
  step "Creating tenant $tenant"
  "$ops" tenant create "$tenant" 2>/dev/null
fi

node=http://$("$ops" dev status | awk '$1 == "dataplane-1" { print $3 }')
token=$("$ops" token --tenant "$tenant" --role editor --sub tour)
# The token goes to curl by its standard input: a command line is everybody's to read.
rest() { printf 'header = "Authorization: Bearer %s"\n' "$token" | curl --config - --silent --show-error --fail-with-body "$@"; }

step "Writing a row: POST $node/rest/v1/customers"
rest --header 'Content-Type: application/json' --header 'Prefer: return=representation' \
  --data "{\"name\": \"Customer of $(date -u +%H:%M:%S)\"}" "$node/rest/v1/customers"
echo
step "Reading it: GET $node/rest/v1/customers?select=id,name&order=id.desc&limit=3"
rest "$node/rest/v1/customers?select=id,name&order=id.desc&limit=3"
echo

step 'Next'
next() { printf '  %-46s %s\n' "$1" "$2"; }
next "$ops tenant move $tenant --to s2 --wait" 'move it to another server while it is in use'
next "$ops tenant psql $tenant" 'its database, in psql'
next "$ops op list" 'what was done'
next "$ops dev down" 'stop the fleet (dev destroy --yes removes its data)'
next 'make demo' 'moves under traffic, with a receipt'
