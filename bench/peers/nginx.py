"""nginx from Debian's package, one worker, HTTP/1.1 over mutual TLS between (it speaks no HTTP/2 upstream)."""

from __future__ import annotations

import shutil
import subprocess

from bench.certificates import SERVER_NAME
from bench.peers.pair import Missing, Pair, Site


def nginx(site: Site) -> Pair:
    """A pair with kept connections between and to the application."""
    program = shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")
    if program is None:
        raise Missing("nginx is not installed: apt-get install nginx-light")
    version = (
        subprocess.run([program, "-v"], capture_output=True, text=True, check=True)
        .stderr.strip()
        .rsplit("/")[-1]
    )
    root = site.certificate("root.pem")
    connect = f"""proxy_pass https://out;
      proxy_ssl_certificate {site.certificate("client.pem")};
      proxy_ssl_certificate_key {site.certificate("client.key")};
      proxy_ssl_trusted_certificate {root};
      proxy_ssl_verify on;
      proxy_ssl_name {SERVER_NAME};
      proxy_ssl_protocols TLSv1.3;"""
    accept = f"""listen 127.0.0.1:{site.inbound} ssl backlog=4096;
    ssl_certificate {site.certificate("server.pem")};
    ssl_certificate_key {site.certificate("server.key")};
    ssl_client_certificate {root};
    ssl_verify_client on;
    ssl_protocols TLSv1.3;"""
    allowed = """if ($ssl_client_s_dn != "CN=client") { return 403; }
    if ($request_method != GET) { return 403; }"""
    listen = f"listen 127.0.0.1:{site.outbound} backlog=4096;"
    client = _config(site, ("client", listen, ""), site.inbound, connect)
    server = _config(
        site, ("server", accept, allowed if site.features else ""), site.origin, "proxy_pass http://out;"
    )
    configs = (site.write("client.conf", client), site.write("server.conf", server))
    prefix = str(site.folder)
    return Pair(
        tuple((program, "-p", prefix, "-c", str(each)) for each in configs), site.outbound, version, configs
    )


def _config(site: Site, frontend: tuple[str, str, str], upstream: int, proxy: str) -> str:
    name, listen, rules = frontend
    log = (
        f"access_log {site.folder}/{name}.access.log combined buffer=64k flush=1s;"
        if site.features
        else "access_log off;"
    )
    scratch = "".join(
        f"  {kind}_temp_path {site.folder}/{name}.{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {site.folder}/{name}.pid;
error_log {site.folder}/{name}.error.log error;
events {{ worker_connections 8192; }}
http {{
{scratch}  {log}
  keepalive_requests 1000000;
  upstream out {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000; }}
  server {{
    {listen}
    {rules}
    location / {{
      {proxy}
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
    }}
  }}
}}
"""
