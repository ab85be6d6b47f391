"""The escape suite: what somebody inside would try, each try a case with what must come of it.

`catalogue` lists every case. The modules `program` imports run inside a sandbox on the standard library alone, shown to
it as files; what needs a hostile arrangement or the host's view is tried by `outside`, `bombs` and `archives` on the
host. The product imports all of them for their data.
"""
