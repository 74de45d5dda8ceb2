#!/bin/sh
# Measures the ingress beside nginx's proxy_pass: the same upstream, the same load, in alternating pairs.
# Prints requests/s, CPU a request (user and system, of the proxy alone) and, at a fixed rate, latencies.
# Needs nginx, wrk and the examples `front` and `pace` of the ingress crate, built with PROFILE (release).
#   PAIRS=5 SECONDS_EACH=4 CONNECTIONS=32 RATE=2000 THREADS=2 sh bench/ingress/compare.sh
set -eu
pairs=${PAIRS:-5} seconds=${SECONDS_EACH:-4} connections=${CONNECTIONS:-32} rate=${RATE:-2000} threads=${THREADS:-2}
bin=$(cd "$(dirname "$0")/../.." && pwd)/target/${PROFILE:-release}/examples
dir=$(mktemp -d)
trap 'kill $(cat "$dir"/*.pid 2>/dev/null) 2>/dev/null; wait 2>/dev/null; rm -rf "$dir"' EXIT INT TERM

free_port() { # prints a port that nobody uses
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
body=$(head -c 1024 /dev/zero | tr '\0' x)
up=$(free_port) proxy=$(free_port) front=$(free_port)

common="pid PIDFILE; error_log $dir/error.log; events { worker_connections 4096; }"
cat > "$dir/up.conf" <<CONF
worker_processes 1; daemon on; $(echo "$common" | sed "s#PIDFILE#$dir/up.pid#")
http { access_log off; keepalive_requests 1000000000; keepalive_timeout 300s;
  server { listen 127.0.0.1:$up backlog=1024; location / { default_type text/plain; return 200 "$body"; } } }
CONF
cat > "$dir/proxy.conf" <<CONF
worker_processes $threads; daemon on; $(echo "$common" | sed "s#PIDFILE#$dir/proxy.pid#")
http { access_log $dir/nginx-access.log combined; keepalive_requests 1000000000;
  upstream app { server 127.0.0.1:$up; keepalive 256; keepalive_requests 1000000000; }
  server { listen 127.0.0.1:$proxy backlog=1024; location / { proxy_pass http://app; proxy_http_version 1.1;
    proxy_set_header Connection ""; proxy_set_header Host \$host; proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto http; proxy_set_header traceparent 00-\$request_id-0000000000000001-00; } } }
CONF
nginx -c "$dir/up.conf" -p "$dir"
nginx -c "$dir/proxy.conf" -p "$dir"
"$bin/front" 127.0.0.1:$front 127.0.0.1:$up "$dir/front-access.log" "$threads" > /dev/null &
echo $! > "$dir/front.pid"
sleep 0.5

cpu() { # clock ticks used by a process and its children's processes
    for pid in $1 $(cat "/proc/$1/task/$1/children"); do
        awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$pid/stat"
    done | awk '{ sum += $1 } END { print sum }'
}
measure() { # name port pid
    before=$(cpu "$3")
    wrk -t1 -c"$connections" -d"${seconds}s" "http://127.0.0.1:$2/" > "$dir/wrk"
    after=$(cpu "$3")
    awk -v name="$1" -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" '
        /requests in/ { total = $1 } /Requests\/sec/ { rps = $2 } /Non-2xx|Socket errors/ { bad = $0 }
        END { printf "%-8s %8.0f requests/s %7.2f us CPU/request %s\n", name, rps, ticks / hz * 1e6 / total, bad }' "$dir/wrk"
}
i=0
while [ $i -lt "$pairs" ]; do
    measure nginx "$proxy" "$(cat "$dir/proxy.pid")"
    measure ingress "$front" "$(cat "$dir/front.pid")"
    i=$((i + 1))
done | tee "$dir/load"
i=0
while [ $i -lt "$pairs" ] && [ -x "$bin/pace" ]; do
    printf '%-8s ' nginx; "$bin/pace" 127.0.0.1:$proxy "$rate" "$connections" "$seconds"
    printf '%-8s ' ingress; "$bin/pace" 127.0.0.1:$front "$rate" "$connections" "$seconds"
    i=$((i + 1))
done | tee "$dir/paced"
median() { # file name column
    awk -v name="$2" -v column="$3" '$1 == name { print $column }' "$1" | sort -n |
        awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }'
}
for name in nginx ingress; do
    printf 'median %-8s %s requests/s, %s us CPU/request, p50 %s us, p99 %s us at %s/s\n' "$name" \
        "$(median "$dir/load" $name 2)" "$(median "$dir/load" $name 4)" \
        "$(median "$dir/paced" $name 3)" "$(median "$dir/paced" $name 6)" "$rate"
done
