#!/bin/sh
# The same worker with curl alone: the inbox as server-sent events, everything else as REST.
#
#   MOLECULE_URL=http://127.0.0.1:8080 MOLECULE_TOKEN=... ./worker.sh WORKSPACE [THINK_SECONDS]
set -eu

workspace=$1
think=${2:-0}
here=$(dirname "$0")
url=${MOLECULE_URL:-http://127.0.0.1:8080}
python=${PYTHON:-python3} # Only to read and write JSON, and for the work itself.

# Every call but the stream may be repeated without harm: retry for a minute while the server is away.
api() {
    method=$1 path=$2
    shift 2
    printf 'header = "Authorization: Bearer %s"\n' "$MOLECULE_TOKEN" |
        curl --silent --show-error --fail-with-body --config - --request "$method" \
            --retry 60 --retry-delay 1 --retry-all-errors --max-time 30 "$url$path" "$@"
}

stream() {
    printf 'header = "Authorization: Bearer %s"\n' "$MOLECULE_TOKEN" |
        curl --silent --no-buffer --fail --config - --header 'Accept: text/event-stream' \
            --max-time 3600 "$url/workspaces/$workspace/inbox/stream"
}

json() { # json EXPRESSION: of the document `d` on stdin, with the arguments in `a`
    expression=$1
    shift
    "$python" -c "import json, sys
d, a = json.load(sys.stdin), sys.argv[1:]
r = $expression
print(r if isinstance(r, str) else json.dumps(r))" "$@"
}

handle() { # handle FRAME: do the item's task, report the result, and only then ack
    seq=$(printf "%s\n" "$1" | json 'd["item"]["seq"]')
    task=$(printf "%s\n" "$1" | json 'd["item"]["delegation_id"] if d["item"]["method"] == "delegate" else ""')
    if [ -n "$task" ]; then
        # The first heartbeat's answer tells the status: an item whose result was reported just
        # before the connection broke is delivered again.
        status=$(api POST "/workspaces/$workspace/delegations/$task/heartbeat" | json 'd["status"]')
        case $status in completed | failed) ;; *) work "$1" "$task" ;; esac
    fi
    api POST "/workspaces/$workspace/inbox/ack" --data "{\"seqs\":[$seq]}" >/dev/null
}

work() { # work FRAME DELEGATION
    path=$(printf "%s\n" "$1" | json 'json.loads(d["item"]["text"])["path"]')
    sleep "$think"
    if report=$("$python" "$here/analysis.py" "$path" 2>&1); then
        body=$(echo null | json '{"status": "completed", "response_preview": a[0]}' "$report")
        echo "worker: did $path" >&2
    else
        body=$(echo null | json '{"status": "failed", "error": a[0]}' "$report")
    fi
    api POST "/workspaces/$workspace/delegations/$2/update" --data "$body" >/dev/null
}

api POST /registry/register \
    --data "{\"id\":\"$workspace\",\"delivery_mode\":\"poll\",\"agent_card\":{\"name\":\"worker\"}}" \
    >/dev/null

while :; do
    stream | while IFS= read -r line; do
        case $line in
            'data:'*'"item":'*) handle "${line#data:}" ;;
            'data:'*'"beat":'*)
                api POST /registry/heartbeat --data "{\"workspace_id\":\"$workspace\"}" >/dev/null
                ;;
        esac
    done || true
    sleep 0.5 # The stream ended: the next one resumes at the first item not acked.
done
