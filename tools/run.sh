#!/bin/bash
# run.sh - starts build/eider in the foreground with the embedded default, waits until it is ready
# and prints three requests to try. Settings come from the environment as usual. Ctrl-C and SIGTERM
# go to the server, which finishes what it has begun; its exit status is ours.
. "$(dirname "$0")/common.sh"

ready_deadline_s=30
listen=${EIDER_LISTEN:-127.0.0.1:8080}
port=${listen##*:}
host=${listen%:*}
case $host in
    '' | 0.0.0.0 | '[::]') host=127.0.0.1 ;;
esac
url=http://$host:$port

is_ready() {
    curl --silent --fail --noproxy '*' --max-time 1 --output /dev/null "$url/health/ready"
}

print_welcome() {
    cat >&2 <<END

Eider is ready on $url. Try, in another terminal:

curl -s $url/ingest -H 'Content-Type: application/json' -d '{"table_name": "events", "records": [{"name": "ada", "amount": 3}, {"name": "bob", "amount": 4.5}]}'
curl -s $url/query -H 'Content-Type: application/json' -d '{"sql": "SELECT name, sum(amount) AS total FROM events GROUP BY name ORDER BY name"}'
curl -s $url/tables

Ctrl-C stops it.

END
}

if is_ready; then
    die "something is already serving on $url; stop it, or choose another address with EIDER_LISTEN"
fi

server=
forward() {
    [ -z "$server" ] || kill -TERM "$server" 2>/dev/null || true
}
trap forward INT TERM HUP

build/eider serve &
server=$!

SECONDS=0
while kill -0 "$server" 2>/dev/null; do
    if is_ready; then
        print_welcome
        break
    fi
    if [ "$SECONDS" -ge "$ready_deadline_s" ]; then
        say "the server is not ready after $ready_deadline_s s; see its log above"
        break
    fi
    sleep 0.05
done

# A signal interrupts `wait`; the server has the last word on when it ends.
status=0
while :; do
    status=0
    wait "$server" || status=$?
    kill -0 "$server" 2>/dev/null || break
done
exit "$status"
