"""HAProxy from Debian's package, one thread, with HTTP/2 or HTTP/1.1 over mutual TLS between the sidecars."""

from __future__ import annotations

import shutil
import subprocess

from bench.certificates import SERVER_NAME
from bench.peers.pair import Missing, Pair, Site


def h2(site: Site) -> Pair:
    """HTTP/2 between."""
    return _pair(site, "h2")


def h1(site: Site) -> Pair:
    """HTTP/1.1 between."""
    return _pair(site, "http/1.1")


def _pair(site: Site, alpn: str) -> Pair:
    program = shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")
    if program is None:
        raise Missing("haproxy is not installed: apt-get install haproxy")
    version = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stdout.split()[2]
    connect = (
        f"server peer 127.0.0.1:{site.inbound} ssl crt {site.certificate('client.both.pem')}"
        f" ca-file {site.certificate('root.pem')} verify required verifyhost {SERVER_NAME} sni str({SERVER_NAME})"
        f" alpn {alpn} ssl-min-ver TLSv1.3 pool-max-conn 512"
    )
    accept = (
        f"bind 127.0.0.1:{site.inbound} ssl crt {site.certificate('server.both.pem')}"
        f" ca-file {site.certificate('root.pem')} verify required alpn {alpn} ssl-min-ver TLSv1.3"
    )
    allowed = "http-request deny unless { ssl_c_s_dn(CN) client } { method GET } { path_beg /api/ }\n    "
    client = _config(site, f"bind 127.0.0.1:{site.outbound}", "", connect)
    server = _config(
        site,
        accept,
        allowed if site.features else "",
        f"server app 127.0.0.1:{site.origin} pool-max-conn 512",
    )
    configs = (site.write("client.cfg", client), site.write("server.cfg", server))
    return Pair(
        tuple((program, "-db", "-q", "-f", str(each)) for each in configs), site.outbound, version, configs
    )


def _config(site: Site, bind: str, rules: str, server: str) -> str:
    # Standard output of each sidecar goes to a file of its own: that is HAProxy's access log without a syslog daemon.
    log = "log stdout format raw local0\n    option httplog" if site.features else "no log"
    return f"""global
    maxconn 8192
    nbthread 1
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 1s
    http-reuse always
    {log}
frontend in
    {bind}
    {rules}default_backend out
backend out
    {server}
"""
