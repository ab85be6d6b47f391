"""The command line: translates arguments to SDK calls, and answers to tables or JSON.

It knows no more of the server than the SDK does. Standard output carries the result alone (a table on a terminal,
tab-separated lines without a heading when piped, the API's answer with `--output json`); everything else goes to
standard error. Text from elsewhere cannot steer the terminal. Exit codes are listed in `exits`.

Importing this package loads no HTTP library and no renderer: `tenantry --help` answers at once.
"""
