"""The demo: real server processes restarted under real load, behind a balancer that learns late, first plain, then with
drain.

One process a part, so that none borrows another's event loop or GIL: `server`, `balancer` and `load` talk to `run` in
JSON lines (`pipe`); `run` restarts the servers in turn and returns frozen results (`results`); `page` and `chart` draw
them.
"""
