# shellcheck shell=bash
# What the servers need on this machine: Debian packages and jars. Sourced by `run`.

now() { date +%s%N; }

# report WHAT BEGAN: one line of progress with the seconds since BEGAN.
report() {
    local tenths=$((($(now) - $2) / 100000000))
    printf 'real: %s (%d.%d s)\n' "$1" $((tenths / 10)) $((tenths % 10)) >&2
}

die() {
    printf 'real: %s\n' "$1" >&2
    exit 1
}

# The newest of Debian's server folders, which are on nobody's PATH; else the PATH's own.
postgres_bin() {
    local found
    found=$(find /usr/lib/postgresql/*/bin -maxdepth 1 -name initdb 2>/dev/null | sort -V | tail -n 1)
    [ -n "$found" ] || found=$(readlink -f "$(command -v initdb)" 2>/dev/null) || return 1
    dirname "$found"
}

java_major() {
    java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p'
}

install_packages() {
    local missing=() began major
    postgres_bin >/dev/null && command -v psql >/dev/null || missing+=(postgresql)
    command -v java >/dev/null || missing+=(default-jre-headless)
    command -v mvn >/dev/null || missing+=(maven)
    command -v prometheus >/dev/null || missing+=(prometheus)
    command -v prometheus-alertmanager >/dev/null || missing+=(prometheus-alertmanager)
    command -v tmux >/dev/null || missing+=(tmux)
    command -v strace >/dev/null || missing+=(strace)
    command -v ip >/dev/null || missing+=(iproute2)
    command -v curl >/dev/null || missing+=(curl)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    if [ ${#missing[@]} -gt 0 ]; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            die "please install these Debian packages, or what holds the same programs: ${missing[*]}"
        fi
        began=$(now)
        apt-get update -qq
        # RUNLEVEL=1 asks the packages not to start their services.
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
        report "installed ${missing[*]}" "$began"
    fi
    major=$(java_major)
    [ "${major:-0}" -ge 17 ] || die "Kafka and Debezium need Java 17 or newer; $(command -v java) is version ${major:-unknown}"
}

# One folder of jars per pom.xml, moved into place whole, so that neither an interrupted download nor
# a second run beside this one leaves a folder that only looks complete.
install_jars() {
    local hash began profile partial output
    hash=$(sha256sum "$here/pom.xml")
    jars=$cache/jars-${hash:0:16}
    [ ! -d "$jars" ] || return 0
    began=$(now)
    mkdir -p "$cache"
    partial=$(mktemp -d "$cache/partial.XXXXXX")
    for profile in kafka:kafka debezium-postgres:plugins/debezium-postgres; do
        output=$(mvn -q -B -f "$here/pom.xml" -P "${profile%%:*}" dependency:copy-dependencies \
            -DoutputDirectory="$partial/${profile#*:}" 2>&1) || {
            rm -rf "$partial"
            printf '%s\n' "$output" >&2
            die "maven could not fetch the jars of profile ${profile%%:*}"
        }
    done
    mv -T "$partial" "$jars" 2>/dev/null || rm -rf "$partial"
    [ -d "$jars" ] || die "could not write $jars"
    find "$cache" -maxdepth 1 -name 'jars-*' ! -path "$jars" -exec rm -rf {} +
    report "fetched jars" "$began"
}

# The client libraries of tests/real/clients, pinned there, in one folder: venv and node_modules. As
# with the jars it is moved into place whole; a venv has its path within it, so the folder is made under
# a name of its own and reached by a link.
install_clients() {
    local hash began partial output
    hash=$(cat "$here/clients/requirements.txt" "$here/clients/package.json" | sha256sum)
    clients=$cache/clients-${hash:0:16}
    [ ! -d "$clients" ] || return 0
    began=$(now)
    mkdir -p "$cache"
    partial=$(mktemp -d "$cache/clients.XXXXXX")
    cp "$here/clients/package.json" "$partial"
    output=$(python3 -m venv "$partial/venv" &&
        "$partial/venv/bin/pip" install --quiet --disable-pip-version-check \
            -r "$here/clients/requirements.txt" 2>&1 &&
        npm install --prefix "$partial" --silent --no-audit --no-fund 2>&1) || {
        rm -rf "$partial"
        printf '%s\n' "$output" >&2
        die "the client libraries could not be fetched"
    }
    ln -sT "$partial" "$clients" 2>/dev/null || rm -rf "$partial"
    [ -d "$clients" ] || die "could not write $clients"
    report "fetched client libraries" "$began"
}
