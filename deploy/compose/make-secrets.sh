#!/bin/sh
# Makes the secrets that docker-compose.yml and deploy/compose/secure.yml mount; what is there stays.
#
#   deploy/compose/make-secrets.sh                           # into deploy/compose/secrets
#   deploy/compose/make-secrets.sh --workspace ID [FOLDER]   # ID: whose memories `publisher` may send
#
# The folder is closed to other users. Its files can be read by anyone who gets at them, because each
# container runs as a user of its own and Compose mounts them as they are.
set -eu

workspace=
if [ "${1:-}" = --workspace ]; then
  workspace=$2
  shift 2
fi
folder=${1:-$(dirname "$0")/secrets}

umask 077
mkdir -p "$folder"
cd "$folder"

# Letters first: nats-server would read 12e4 as a number.
random() {
  printf 'p%s' "$(od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n')"
}

# keep NAME: write standard input to NAME, unless it is there.
keep() {
  if [ -s "$1" ]; then
    cat >/dev/null
  else
    cat >"$1.new"
    mv "$1.new" "$1"
  fi
  chmod 444 "$1"
}

for role in database postgres nats grafana bootstrap ingest embedder curator migrator publisher; do
  random | keep "${role}_password"
done

database=$(cat database_password)
printf 'postgresql://engram:%s@postgres:5432/engram' "$database" | keep database_url
printf 'nats://engram:%s@nats:4222' "$(cat nats_password)" | keep nats_url
printf 'ENGRAM_PASSWORD: "%s"\n' "$(cat nats_password)" | keep nats_passwords

for role in bootstrap ingest embedder curator migrator; do
  printf 'tls://%s:%s@nats:4222' "$role" "$(cat "${role}_password")" | keep "nats_url_$role"
done

# The workspace is known only after the first start; until then the publisher may send nothing that
# any service takes.
if [ -n "$workspace" ] || [ ! -s publisher_workspace ]; then
  printf %s "${workspace:-00000000-0000-0000-0000-000000000000}" >publisher_workspace
fi
{
  for role in bootstrap ingest embedder curator migrator publisher; do
    name=$(printf %s "$role" | tr '[:lower:]' '[:upper:]')
    printf '%s_PASSWORD: "%s"\n' "$name" "$(cat "${role}_password")"
  done
  printf 'PUBLISHER_SUBJECT: "engram.v1.ingest.%s"\n' "$(cat publisher_workspace)"
} >nats_passwords_secure.new
chmod 444 nats_passwords_secure.new
mv nats_passwords_secure.new nats_passwords_secure

if [ ! -s nats_certificate ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
    -subj /CN=engram-ca -keyout ca_key -out ca_certificate \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=nats \
    -keyout nats_key -out nats_request 2>/dev/null
  printf 'subjectAltName=DNS:nats,DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >nats_names
  openssl x509 -req -in nats_request -CA ca_certificate -CAkey ca_key -CAcreateserial -days 825 \
    -extfile nats_names -out nats_certificate 2>/dev/null
  rm -f nats_request nats_names ca_certificate.srl
  chmod 444 nats_certificate nats_key ca_certificate
  chmod 400 ca_key
fi

# What the services trust: the authorities of this machine, for embedding providers, and ours.
for system in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
  if [ -s "$system" ]; then
    break
  fi
done
if [ -s "$system" ]; then
  cat "$system" ca_certificate
else
  cat ca_certificate
fi >ca_bundle.new
chmod 444 ca_bundle.new
mv ca_bundle.new ca_bundle

echo "Secrets are in $folder."
