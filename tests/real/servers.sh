# shellcheck shell=bash
# Starts, awaits and stops the servers. Sourced by `run`. Everything they write is in one temporary
# folder: NAME.log, NAME.pid, NAME.properties and the data folder NAME.

# Nothing outlives a run, so servers are stopped the quick way, and may be lazy about the disk.
declare -A server_pid=() server_began=() server_stop=([postgres]=QUIT [kafka]=KILL [connect]=KILL)
run_dir=

make_run_dir() {
    run_dir=$(mktemp -d "${TMPDIR:-/tmp}/cutover-real.XXXXXX")
    chmod 711 "$run_dir"
}

# Sets the variable named by $1 to a port nobody listens on, below the range that the kernel hands out.
ports_taken=" "
free_port() {
    local candidate
    while :; do
        candidate=$((20000 + RANDOM % 12000))
        [[ $ports_taken != *" $candidate "* ]] || continue
        (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null || break
    done
    ports_taken+="$candidate "
    printf -v "$1" %s "$candidate"
}

# start NAME COMMAND...: in a session of its own, so that Ctrl-C reaches only this script, and told by
# the kernel to end should the script be killed.
start() {
    local name=$1
    shift
    server_began[$name]=$(now)
    setsid setpriv --pdeathsig "${server_stop[$name]}" "$@" </dev/null >"$run_dir/$name.log" 2>&1 &
    server_pid[$name]=$!
    echo $! >"$run_dir/$name.pid"
    # Not a job any more: the shell would report each one that is stopped.
    disown $!
}

# await NAME SECONDS COMMAND...: until COMMAND succeeds.
await() {
    local name=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! kill -0 "${server_pid[$name]}" 2>/dev/null; then
            show_log "$name"
            die "$name ended while starting"
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            show_log "$name"
            die "$name is not ready in time"
        fi
        sleep 0.1
    done
    report "$name ready" "${server_began[$name]}"
}

show_log() {
    printf "real: the end of the log of %s:\n" "$1" >&2
    tail -n 40 "$run_dir/$1.log" >&2
}

# What a server that ran through a failed test complained about, if anything.
show_complaints() {
    printf "real: warnings and errors of %s:\n" "$1" >&2
    grep -E "WARN|ERROR|FATAL|PANIC" "$run_dir/$1.log" | tail -n 20 >&2 || true
}

stop_servers() {
    local status=$? name deadline
    trap - EXIT INT TERM HUP
    # Connect first, which would otherwise complain about a broker that is gone.
    for name in connect kafka postgres; do
        [ -z "${server_pid[$name]:-}" ] || kill -s "${server_stop[$name]}" "${server_pid[$name]}" 2>/dev/null || true
    done
    deadline=$((SECONDS + 10))
    for name in "${!server_pid[@]}"; do
        while kill -0 "${server_pid[$name]}" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do
            sleep 0.1
        done
        kill -s KILL "${server_pid[$name]}" 2>/dev/null || true
    done
    [ -z "$run_dir" ] || rm -rf "$run_dir"
    exit "$status"
}

start_postgres() {
    local bin data=$run_dir/postgres as=()
    bin=$(postgres_bin)
    mkdir "$data"
    # The server refuses to run as root.
    if [ "$(id -u)" = 0 ]; then
        chown postgres: "$data"
        as=(setpriv --reuid postgres --regid postgres --init-groups --)
    fi
    (cd / && "${as[@]}" "$bin/initdb" --pgdata "$data" --username postgres --auth trust --encoding UTF8 \
        --locale C --no-sync) >"$run_dir/initdb.log" 2>&1 || {
        show_log initdb
        die "initdb did not make a database"
    }
    free_port postgres_port
    # The second setpriv: a change of user clears the death signal that the first one set.
    start postgres "${as[@]}" setpriv --pdeathsig QUIT "$bin/postgres" -D "$data" -p "$postgres_port" \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off \
        -c wal_level=logical -c max_wal_senders=8 -c max_replication_slots=8 -c timezone=UTC
}

await_postgres() {
    await postgres 30 "$(postgres_bin)/pg_isready" -q -h 127.0.0.1 -p "$postgres_port"
}

# kafka_java MAIN-CLASS ARG...: start-up time matters more than peak speed.
kafka_java=(java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Djava.net.preferIPv4Stack=true)

start_kafka() {
    local controller_port config=$run_dir/kafka.properties id
    free_port kafka_port
    free_port controller_port
    kafka_java+=("-Dlog4j2.configurationFile=file:$here/log4j2.properties" -cp "$jars/kafka/*")
    cat >"$config" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$kafka_port
log.dirs=$run_dir/kafka
auto.create.topics.enable=true
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# Room for the 17 MiB message that the appliance must survive.
message.max.bytes=20971520
replica.fetch.max.bytes=20971520
EOF
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
    "${kafka_java[@]}" kafka.tools.StorageTool format --config "$config" --cluster-id "$id" \
        >"$run_dir/format.log" 2>&1 || {
        show_log format
        die "the broker's storage was not formatted"
    }
    start kafka "${kafka_java[@]}" kafka.Kafka "$config"
}

await_kafka() {
    await kafka 60 grep -q 'Kafka Server started' "$run_dir/kafka.log"
}

start_connect() {
    local config=$run_dir/connect.properties
    free_port connect_port
    cat >"$config" <<EOF
bootstrap.servers=127.0.0.1:$kafka_port
group.id=connect
listeners=http://127.0.0.1:$connect_port
rest.advertised.host.name=127.0.0.1
plugin.path=$jars/plugins
plugin.discovery=service_load
key.converter=org.apache.kafka.connect.json.JsonConverter
key.converter.schemas.enable=false
value.converter=org.apache.kafka.connect.json.JsonConverter
value.converter.schemas.enable=false
config.storage.topic=connect-configs
config.storage.replication.factor=1
offset.storage.topic=connect-offsets
offset.storage.replication.factor=1
offset.storage.partitions=1
status.storage.topic=connect-status
status.storage.replication.factor=1
status.storage.partitions=1
offset.flush.interval.ms=1000
scheduled.rebalance.max.delay.ms=0
producer.max.request.size=20971520
EOF
    start connect "${kafka_java[@]}" org.apache.kafka.connect.cli.ConnectDistributed "$config"
}

# The worker answers 200 here only once it has joined its group and read its topics.
connect_healthy() {
    local reply
    exec 3<>"/dev/tcp/127.0.0.1/$connect_port" || return 1
    printf 'GET /health HTTP/1.0\r\n\r\n' >&3
    read -r -t 5 reply <&3 || reply=
    exec 3>&-
    [[ $reply == *' 200 '* ]]
}

await_connect() {
    await connect 90 connect_healthy
}
