#!/bin/sh
# mark.sh down|up ADDRESS: take a server out of nginx, or put it back. In the folder of nginx.conf, as the user that nginx runs as.
set -eu
case "$1" in
    down) sed -i "/^server $2 /s/ *;/ down;/" backends.conf ;;
    up) sed -i "/^server $2 /s/ down;/;/" backends.conf ;;
    *) echo "usage: mark.sh down|up ADDRESS" >&2; exit 2 ;;
esac
grep -q "^server $2 " backends.conf || { echo "mark.sh: backends.conf has no line 'server $2 ...;'" >&2; exit 1; }
exec nginx -p "$PWD" -c nginx.conf -e stderr -s reload
