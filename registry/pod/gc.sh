# Free the space that no image needs, in the registry's container:
#
#     sh gc.sh settle|collect CONFIGURATION STOPPED METRICS DATA
#
# Pushes have to be stopped: the file STOPPED holds until when they are, in seconds since 1970.
#   settle   waits until the registry serves no request of a manifest. One that was checked before and is written after
#            the images have been looked through could lose its layers.
#   collect  removes uploads that are not complete, and everything that no manifest refers to. It ends itself long before
#            pushes are allowed again, so whoever wants it to go on has to prolong that they are stopped.
# It needs a POSIX shell with busybox's commands, which the public image has.
set -u
verb=$1 configuration=$2 stopped=$3 metrics=$4 data=$5
margin=30 tries=600

say() { echo "$*" >&2; }
left() { echo $(($(cat "$stopped" 2>/dev/null || echo 0) - $(date +%s))); }
serving() {
    wget -q -O - "http://$metrics/metrics" | sed -n 's/^registry_http_in_flight_requests{handler="manifest"} //p'
}
used() { df -Pk "$data" 2>/dev/null | awk 'NR == 2 { print $3 } END { if (NR < 2) print 0 }'; }

case $verb in
settle)
    sleep 1  # a request that came just before pushes were stopped has reached the registry by now
    serves=$(serving)
    until [ "$serves" = 0 ]; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ]; then
            [ -n "$serves" ] || { say "the registry does not say what it serves"; exit 1; }
            say "a manifest has been on its way for longer than a minute"
            exit 1
        fi
        sleep 0.1
        serves=$(serving)
    done
    ;;
collect)
    [ "$(left)" -gt "$margin" ] || { say "pushes are not stopped"; exit 1; }
    before=$(used)
    # Whoever goes on with one of these uploads gets an error, and begins anew.
    find "$data/docker/registry/v2/repositories" -type d -name _uploads -prune -exec rm -rf {} + 2>/dev/null
    registry garbage-collect "$configuration" &
    collector=$!
    while sleep 1 && kill -0 "$collector" 2>/dev/null; do
        [ "$(left)" -gt "$margin" ] || { kill -KILL "$collector"; say "nobody keeps pushes stopped any longer"; exit 1; }
    done
    wait "$collector" || { say "the registry's garbage collection has failed"; exit 1; }
    # The file system here says nothing of a bucket.
    [ -d "$data/docker" ] || { echo "freed in the bucket"; exit 0; }
    echo "freed $(((before - $(used)) / 1024)) MiB"
    ;;
esac
