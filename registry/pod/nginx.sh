# Run nginx, and have it read its certificate again whenever that changes: sh nginx.sh CONFIGURATION CERTIFICATE KEY DRAIN
#
# It also ends what stops pushes (the file `stopped`, see nginx.py) when nobody has prolonged that in time.
#
# A reload keeps open transfers. What nginx refuses is left alone, said, and tried again with a growing pause, so the old
# certificate is served for as long as there is no good new one. When the container is told to end, nginx takes no more
# connections, and completes what is open for DRAIN seconds. It runs with any POSIX shell and a few commands.
set -u
configuration=$1 certificate=$2 key=$3 drain=$4
interval=2 longest=60

# A kernel without IPv6 has no such sockets.
own=/run/nginx/nginx.conf stopped=/run/nginx/stopped
if [ -e /proc/net/if_inet6 ]; then cat "$configuration"; else sed '/listen \[::\]/d' "$configuration"; fi >"$own"

state() { cat "$certificate" "$key" 2>/dev/null | sha256sum; }
say() { echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $*" >&2; }

end() {
    trap '' TERM INT
    kill -QUIT "$server" 2>/dev/null
    (sleep "$drain"; say "cutting off what is still open after $drain s"; kill -TERM "$server") &
    cutter=$!
    wait "$server"
    kill -KILL "$cutter" 2>/dev/null  # a signal that is ignored here is ignored there, too
    exit 0
}

served=$(state)
nginx -e stderr -c "$own" -g 'daemon off;' &
server=$!
trap end TERM INT

pause=$interval
while true; do
    sleep "$pause" &
    wait $!
    kill -0 "$server" 2>/dev/null || { say "nginx has ended by itself"; exit 1; }
    if until=$(cat "$stopped" 2>/dev/null) && [ "${until:-0}" -le "$(date +%s)" ]; then
        rm -f "$stopped"
        say "pushes are allowed again, since nobody has prolonged that they are stopped"
    fi
    found=$(state)
    if [ "$found" = "$served" ]; then
        pause=$interval
    elif nginx -e stderr -c "$own" -t -q; then
        # What is read now may be newer than what was tried; the next look then finds another state, and reloads again.
        say "the certificate has changed: reloading"
        kill -HUP "$server"
        served=$found pause=$interval
    else
        pause=$((pause * 2 < longest ? pause * 2 : longest))
        say "the certificate has changed, but nginx refuses it: the old one stays, and the next try is in $pause s"
    fi
done
