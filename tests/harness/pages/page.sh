# What the commands of a page run in. Steps are sourced one after the other, so that variables, directories and jobs live on between blocks.
set -eu
declare -A served=()

# Ends what serves at a port.
end_served() {
    local pid=${served[$1]:-}
    [ -n "$pid" ] || return 0
    unset "served[$1]"
    kill -TERM -- "-$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    while kill -0 -- "-$pid" 2>/dev/null; do sleep 0.05; done
}

# Ends all that a page has started.
leave() {
    local code=$? port
    trap - EXIT
    for port in "${!served[@]}"; do end_served "$port"; done
    kill $(jobs -p) 2>/dev/null || true
    wait
    exit "$code"
}
trap leave EXIT
trap 'exit 143' TERM

# Runs a step that serves at a port, and waits until it does.
serve() {
    local port=$1 step=$2 out=$3
    end_served "$port"
    setsid bash "$step" >"$out" 2>&1 &
    served[$port]=$!
    until is_ready "$port"; do
        kill -0 "${served[$port]}" 2>/dev/null || { echo "it ended before it served at $port" >>"$out"; exit 1; }
        sleep 0.1
    done
}

# Whether something listens at a port.
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Whether a port is open, and, where it is an admin port, all is served.
is_ready() {
    listens "$1" || return 1
    case $1 in 414[15]* | 4161) ;; *) return 0 ;; esac
    [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$1/readyz")" = 200 ]
}

# Waits for that.
ready() { until is_ready "$1"; do sleep 0.1; done; }
