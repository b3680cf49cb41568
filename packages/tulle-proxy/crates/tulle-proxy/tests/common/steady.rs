//! One caller, one proxy, one application, one request after another: the steady state that the gates measure.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

/// What the caller sends.
pub const REQUEST: &[u8] =
    b"GET /api/items/42 HTTP/1.1\r\nHost: backend.default\r\nUser-Agent: gate/1\r\nAccept: */*\r\n\r\n";

/// What the application answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nHello, mesh\n";

/// A bootstrap with one HTTP listener before `upstream`: metrics, an access log in `log`, and authorization by method, path
/// and the caller's address.
pub fn featured(upstream: SocketAddr, log: &Path) -> String {
    let port = upstream.port();
    let log = log.display();
    format!(
        r#"{{node: {{id: gate, cluster: gate, metadata: {{WORKLOAD_NAME: gate, NAMESPACE: default}}}},
 static_resources: {{
  clusters: [{{name: app, type: STATIC, load_assignment: {{cluster_name: app, endpoints: [{{lb_endpoints: [
    {{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]}}}}],
  listeners: [{{name: main, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}},
   filter_chains: [{{filters: [{{name: hcm, typed_config: {{
    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
    stat_prefix: main,
    access_log: [{{name: file, typed_config: {{
      "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: "{log}"}}}}],
    http_filters: [
     {{name: rbac, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC,
       rules: {{action: ALLOW, policies: {{callers: {{
         permissions: [{{and_rules: {{rules: [
           {{header: {{name: ":method", string_match: {{exact: GET}}}}}},
           {{url_path: {{path: {{prefix: /api/}}}}}}]}}}}],
         principals: [{{direct_remote_ip: {{address_prefix: 127.0.0.0, prefix_len: 8}}}}]}}}}}}}}}},
     {{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}],
    route_config: {{name: local, virtual_hosts: [{{name: all, domains: ["*"],
      routes: [{{match: {{prefix: /}}, route: {{cluster: app}}}}]}}]}}}}}}]}}]}}]}}}}"#
    )
}

/// An application on a thread of its own, for one connection after another. The thread ends with the process.
pub fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        apart();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut seen, mut room) = (Vec::with_capacity(4096), [0; 4096]);
            while let Ok(n @ 1..) = stream.read(&mut room) {
                seen.extend_from_slice(&room[..n]);
                if seen.ends_with(b"\r\n\r\n") {
                    stream.write_all(ANSWER).unwrap();
                    seen.clear();
                }
            }
        }
    });
    address
}

/// The caller's connection.
pub struct Caller {
    stream: TcpStream,
    room: [u8; 4096],
}

impl Caller {
    pub fn connect(proxy: SocketAddr) -> Caller {
        let stream = TcpStream::connect(proxy).unwrap();
        stream.set_nodelay(true).unwrap();
        Caller { stream, room: [0; 4096] }
    }

    /// Sends the request and reads its whole answer.
    pub fn ask(&mut self) {
        self.stream.write_all(REQUEST).unwrap();
        let mut have = 0;
        while !self.room[..have].ends_with(b"\r\n\r\nHello, mesh\n") {
            let n = self.stream.read(&mut self.room[have..]).unwrap();
            assert!(n > 0, "closed: {}", String::from_utf8_lossy(&self.room[..have]));
            have += n;
        }
        assert!(self.room.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&self.room[..have]));
    }
}

thread_local! {
    static APART: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Marks this thread as one that is not the proxy's.
pub fn apart() {
    APART.with(|apart| apart.set(true));
}

/// Whether this thread was marked.
pub fn is_apart() -> bool {
    APART.try_with(std::cell::Cell::get).unwrap_or(true)
}
