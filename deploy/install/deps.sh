#!/usr/bin/env bash
# Installs what Freehold needs on this machine and is not there yet: a Postgres
# server, PgBouncer, Go, curl, and with "test" a C compiler (Go's race detector
# links with it) and Node.js with npm (the public clients run in it). Quick when nothing is missing. Starts no server: Freehold
# runs its own.
#
#   deploy/install/deps.sh [run|test]
set -euo pipefail

purpose=${1:-run}
go_version=1.26 # as in go.mod
node_version=20 # as in test/clients/js/package.json
say() { printf 'deps: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- what is missing ---------------------------------------------------------

# Looks where internal/pgserver looks.
have_postgres() {
  local dir dirs=()
  if [ -n "${FREEHOLD_PG_BINDIR:-}" ]; then
    IFS=: read -r -a dirs <<<"$FREEHOLD_PG_BINDIR"
  else
    have postgres && dirs+=("$(dirname "$(readlink -f "$(command -v postgres)" 2>/dev/null || command -v postgres)")")
    have pg_config && dirs+=("$(pg_config --bindir 2>/dev/null || true)")
    dirs+=(/usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin
      /home/linuxbrew/.linuxbrew/opt/postgresql@*/bin)
  fi
  for dir in "${dirs[@]}"; do
    if [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] && [ -x "$dir/pg_dump" ] && [ -x "$dir/psql" ]; then
      return 0
    fi
  done
  return 1
}

have_pgbouncer() {
  local p
  have pgbouncer && return 0
  for p in /usr/sbin/pgbouncer /usr/local/sbin/pgbouncer /opt/homebrew/bin/pgbouncer; do
    [ -x "$p" ] && return 0
  done
  return 1
}

# A Go from 1.21 on fetches the version that go.mod asks for by itself.
have_go() {
  local v
  have go || return 1
  v=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
  v=${v#go}
  case $v in
    1.[0-9] | 1.[0-9].* | 1.1[0-9] | 1.1[0-9].* | 1.20 | 1.20.*) return 1 ;;
  esac
}

have_node() {
  have npm && have node && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge "$node_version" ]
}

have_cc() { have cc || have gcc || have clang; }

missing=()
have_postgres || missing+=(postgres)
have_pgbouncer || missing+=(pgbouncer)
have curl || missing+=(curl)
if [ "$purpose" = test ]; then
  have_cc || missing+=(cc)
  have_node || missing+=(node)
fi
have_go || missing+=(go)
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi
say "missing: ${missing[*]}"

# --- how to install it -------------------------------------------------------

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    die "needs root and there is no sudo; run as root: $*"
  fi
}

# Packages of Debian start their services when they are installed, unless a
# policy says no, and make a first cluster, unless a setting says no.
apt_install() {
  local policy=/usr/sbin/policy-rc.d conf=/etc/postgresql-common/createcluster.conf made_policy=
  if [[ " $* " == *" postgresql "* ]] && [ ! -e "$conf" ]; then
    as_root mkdir -p "$(dirname "$conf")"
    printf 'create_main_cluster = false\n' | as_root tee "$conf" >/dev/null
  fi
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    made_policy=yes
  fi
  local status=0
  as_root apt-get update -qq || say "apt-get update failed; going on with the lists that are there"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" || status=$?
  if [ -n "$made_policy" ]; then as_root rm -f "$policy"; fi
  [ "$status" -eq 0 ] || die "apt-get install $* failed"
  # Nor shall they start at the next boot.
  if [[ " $* " == *" pgbouncer "* ]] && have systemctl; then as_root systemctl disable pgbouncer >/dev/null 2>&1 || true; fi
}

packages() { # of this system for what is missing
  local what
  for what in "${missing[@]}"; do
    case $1:$what in
      apt:postgres) echo postgresql postgresql-client ;;
      apt:cc) echo gcc libc6-dev ;;
      apt:node) have npm || echo nodejs npm ;;
      dnf:postgres) echo postgresql-server postgresql-contrib ;;
      dnf:cc) echo gcc glibc-devel ;;
      dnf:node) have npm || echo nodejs npm ;;
      brew:postgres) echo postgresql@17 ;;
      brew:cc) ;; # comes with Homebrew
      brew:go) echo go ;;
      *:go) ;; # below
      *) echo "$what" ;;
    esac
  done
}

if have apt-get; then
  list=$(packages apt)
  if [[ " ${missing[*]} " == *" go "* ]]; then list="$list ca-certificates curl"; fi
  # shellcheck disable=SC2086 # one word per package
  [ -z "${list// /}" ] || apt_install $list
elif have dnf; then
  list=$(packages dnf)
  # shellcheck disable=SC2086
  [ -z "${list// /}" ] || as_root dnf install -y -q $list || die "dnf install $list failed (on RHEL and its kin PgBouncer is in EPEL: dnf install epel-release)"
elif have brew; then
  list=$(packages brew)
  # shellcheck disable=SC2086
  [ -z "${list// /}" ] || brew install --quiet $list
else
  die "no apt-get, dnf or brew here; install by hand: ${missing[*]} (Postgres 15 or newer, PgBouncer 1.18 or newer)"
fi

# The distribution's Go where it is new enough to fetch the version of go.mod
# by itself; on Debian 12 that is the one in backports.
apt_go() {
  local candidate release list=/etc/apt/sources.list.d/backports-for-go.list
  candidate=$(apt-cache policy golang-go | sed -n 's/^ *Candidate: *//p')
  if dpkg --compare-versions "${candidate:-0}" ge 2:1.21; then
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends golang-go
    return
  fi
  release=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") || return 1
  say "adding $release-backports as a source of packages, for Go"
  printf 'deb http://deb.debian.org/debian %s-backports main\n' "$release" | as_root tee "$list" >/dev/null
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -t "$release-backports" golang-go
}

# Go's own archive, checked against the digest that go.dev publishes with it.
archive_go() {
  local os arch file sum tmp version
  os=$(uname -s | tr '[:upper:]' '[:lower:]')
  case $(uname -m) in
    x86_64 | amd64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) return 1 ;;
  esac
  tmp=$(mktemp -d)
  curl -fsSL 'https://go.dev/dl/?mode=json' -o "$tmp/list" || return 1
  version=$(grep -o '"version": *"go[0-9.]*"' "$tmp/list" | head -1 | grep -o 'go[0-9.]*') || return 1
  file=$version.$os-$arch.tar.gz
  sum=$(grep -A6 "\"filename\": *\"$file\"" "$tmp/list" | grep -o '"sha256": *"[0-9a-f]*"' | grep -o '[0-9a-f]\{64\}') || return 1
  curl -fsSL "https://go.dev/dl/$file" -o "$tmp/$file" || return 1
  printf '%s  %s\n' "$sum" "$tmp/$file" | sha256sum -c --quiet - || return 1
  as_root rm -rf /usr/local/go
  as_root tar -C /usr/local -xzf "$tmp/$file"
  as_root ln -sf /usr/local/go/bin/go /usr/local/go/bin/gofmt /usr/local/bin/
  rm -rf "$tmp"
}

if ! have_go; then
  if have apt-get; then apt_go || true; elif have dnf; then as_root dnf install -y -q golang || true; fi
  have_go || archive_go || true
  have_go || die "could not install Go; install $go_version or newer by hand: https://go.dev/dl"
fi

# Where the distribution's Node.js is too old, npm has a newer one.
if [[ " ${missing[*]} " == *" node "* ]] && ! have_node; then
  say "the system's Node.js is older than $node_version: installing the one that npm has"
  as_root npm install --global --prefix /usr/local --no-audit --no-fund --loglevel=error "node@22" || true
  hash -r
  have_node || die "could not install Node.js; install $node_version or newer by hand: https://nodejs.org"
fi

have_postgres || die "Postgres is still not found (set FREEHOLD_PG_BINDIR to the directory of its programs)"
have_pgbouncer || die "PgBouncer is still not found"
say "done"
