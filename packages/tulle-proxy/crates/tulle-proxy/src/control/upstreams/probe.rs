//! One check of one host: a request by HTTP/1.1 or HTTP/2, a gRPC health call, or bytes over TCP.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tulle_balance::{Endpoint, EndpointMetadata};
use tulle_config::Cluster;
use tulle_config::cluster::{HealthCheck, HealthChecker};
use tulle_connect::dial::dial;
use tulle_connect::{DialError, Dialer};
use tulle_core::{Address, Str};
use tulle_http::Stream;

use super::verdict::Finding;

/// Answers to checks longer than this are not read to their end.
const LONGEST_ANSWER: usize = 64 * 1024;
/// What a host says its cluster is.
const CLUSTER_OF_HOST: &str = "x-envoy-upstream-healthchecked-cluster";
/// A gRPC message that holds `SERVING` (grpc.health.v1.HealthCheckResponse, field 1 = 1).
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];

/// A host to be checked, and the connection kept to it between checks.
pub struct Probe {
    dialer: Rc<dyn Dialer>,
    cluster: Arc<Cluster>,
    endpoint: Endpoint,
    kept: Option<Session>,
}

type Http1 = hyper::client::conn::http1::SendRequest<Full<Bytes>>;
type Http2 = h2::client::SendRequest<Bytes>;

enum Session {
    Http1(Http1),
    Http2 { send: Http2, ended: Rc<Cell<bool>> },
}

/// The connection, or the exchange on it, failed: nothing is known of the host's health beyond that.
struct Lost;

impl<E: std::error::Error> From<E> for Lost {
    fn from(_: E) -> Lost {
        Lost
    }
}

/// An HTTP check's request.
struct Ask {
    host: String,
    path: String,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Probe {
    pub fn new(dialer: Rc<dyn Dialer>, cluster: Arc<Cluster>, endpoint: Endpoint, settings: &HealthCheck) -> Probe {
        let mut endpoint = asked_at(endpoint);
        if let Some(labels) = &settings.transport_labels {
            let metadata = EndpointMetadata { transport: labels.clone(), ..(*endpoint.metadata).clone() };
            endpoint.metadata = Arc::new(metadata);
        }
        Probe { dialer, cluster, endpoint, kept: None }
    }

    /// Checks once, within the settings' time.
    pub async fn run(&mut self, settings: &HealthCheck) -> Finding {
        let kept = self.kept.take();
        match tokio::time::timeout(settings.timeout, self.ask(settings, kept)).await {
            Err(_) => Finding::Timeout,
            Ok(Err(Lost)) => Finding::Unreachable,
            Ok(Ok((finding, session))) => {
                self.kept = session.filter(|_| settings.reuse_connection);
                finding
            }
        }
    }

    /// The finding, and the connection where it is still good.
    async fn ask(&self, settings: &HealthCheck, kept: Option<Session>) -> Result<(Finding, Option<Session>), Lost> {
        let checker = &settings.checker;
        if let HealthChecker::Tcp { send, receive } = checker {
            // A new connection each time: that the host accepts one is what is checked.
            let mut stream = self.dial(settings, &[]).await?;
            return Ok((tcp(&mut stream, send.as_deref(), receive).await?, None));
        }
        let session = match kept.filter(Session::is_open) {
            Some(session) => session,
            None => self.connect(settings).await?,
        };
        match session {
            Session::Http1(send) => self.http1(send, checker).await,
            Session::Http2 { send, ended } => {
                let finding = match checker {
                    HealthChecker::Grpc { service, authority, metadata } => {
                        grpc(&send, (service, metadata), self.host(authority.as_ref())).await?
                    }
                    http => self.http2(&send, http).await?,
                };
                Ok((finding, Some(Session::Http2 { send, ended })))
            }
        }
    }

    async fn dial(&self, settings: &HealthCheck, alpn: &[&[u8]]) -> Result<Stream, DialError> {
        let own: Vec<&[u8]> = settings.alpn.iter().map(|name| &**name).collect();
        dial(&self.dialer, &self.cluster, &self.endpoint, if own.is_empty() { alpn } else { &own }).await
    }

    async fn connect(&self, settings: &HealthCheck) -> Result<Session, Lost> {
        if matches!(settings.checker, HealthChecker::Http { http2: false, .. }) {
            let stream = self.dial(settings, &[b"http/1.1"]).await?;
            let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::task::spawn_local(connection);
            return Ok(Session::Http1(send));
        }
        let stream = self.dial(settings, &[b"h2"]).await?;
        let (send, connection) = h2::client::handshake(stream).await?;
        let ended = Rc::<Cell<bool>>::default();
        let tells = ended.clone();
        tokio::task::spawn_local(async move {
            let _how = connection.await;
            tells.set(true);
        });
        Ok(Session::Http2 { send, ended })
    }

    async fn http1(&self, mut send: Http1, checker: &HealthChecker) -> Result<(Finding, Option<Session>), Lost> {
        let ask = self.request(checker)?;
        let mut request = Request::new(Full::new(ask.body));
        *request.method_mut() = ask.method;
        *request.uri_mut() = ask.path.parse()?;
        *request.headers_mut() = ask.headers;
        request.headers_mut().insert(http::header::HOST, ask.host.parse()?);
        send.ready().await?;
        let response = send.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await.map(Collected::to_bytes);
        let finding = judge(checker, head.status.as_u16(), &head.headers, body.as_deref().unwrap_or_default());
        Ok((finding, body.is_ok().then_some(Session::Http1(send))))
    }

    async fn http2(&self, send: &Http2, checker: &HealthChecker) -> Result<Finding, Lost> {
        let ask = self.request(checker)?;
        let mut request = Request::new(());
        *request.method_mut() = ask.method;
        *request.uri_mut() = uri(&ask.host, &ask.path)?;
        *request.headers_mut() = ask.headers;
        let (response, mut upload) = send.clone().ready().await?.send_request(request, ask.body.is_empty())?;
        if !ask.body.is_empty() {
            upload.send_data(ask.body, true)?;
        }
        let (head, mut body) = response.await?.into_parts();
        let seen = read(&mut body).await?;
        Ok(judge(checker, head.status.as_u16(), &head.headers, &seen))
    }

    /// Whom a check asks for: the endpoint may say so, then the check; the cluster's name stands in for both.
    fn host<'p>(&'p self, own: Option<&'p Str>) -> &'p str {
        let by_endpoint = self.endpoint.metadata.check.as_ref().and_then(|check| check.hostname.as_ref());
        by_endpoint.or(own).unwrap_or(&self.cluster.name)
    }

    fn request(&self, checker: &HealthChecker) -> Result<Ask, Lost> {
        let HealthChecker::Http { host, path, method, request_headers, without_headers, send, .. } = checker else {
            return Err(Lost);
        };
        let mut headers = HeaderMap::new();
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static("Envoy/HC"));
        for name in without_headers {
            headers.remove(&**name);
        }
        for (name, value) in request_headers {
            headers.append(HeaderName::from_bytes(name.as_bytes())?, value.parse()?);
        }
        Ok(Ask {
            host: self.host(host.as_ref()).to_owned(),
            path: path.to_string(),
            method: Method::from_bytes(method.as_bytes())?,
            headers,
            body: send.as_ref().map(|send| Bytes::copy_from_slice(send)).unwrap_or_default(),
        })
    }
}

/// The endpoint as checks reach it, where that is elsewhere than requests go.
fn asked_at(mut endpoint: Endpoint) -> Endpoint {
    let Some(check) = &endpoint.metadata.check else { return endpoint };
    let mut address = check.address.clone().unwrap_or_else(|| endpoint.address.clone());
    if let (Some(port), Some(mut at)) = (check.port, address.socket()) {
        at.set_port(port);
        address = Address::Ip(at);
    }
    endpoint.address = address;
    endpoint
}

impl Session {
    fn is_open(&self) -> bool {
        match self {
            Session::Http1(send) => !send.is_closed(),
            Session::Http2 { ended, .. } => !ended.get(),
        }
    }
}

fn uri(host: &str, path: &str) -> Result<Uri, Lost> {
    Ok(Uri::builder().scheme("http").authority(host).path_and_query(path).build()?)
}

/// What an answer says.
fn judge(checker: &HealthChecker, status: u16, headers: &HeaderMap, body: &[u8]) -> Finding {
    let HealthChecker::Http { expected_statuses, retriable_statuses, receive, receive_within, service, .. } = checker
    else {
        return Finding::Refused;
    };
    let within = |ranges: &[(u16, u16)]| ranges.iter().any(|(from, to)| (*from..*to).contains(&status));
    let seen = &body[..receive_within.unwrap_or(usize::MAX).min(body.len())];
    let named = || headers.get(CLUSTER_OF_HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    if within(expected_statuses) {
        let other = service.as_ref().is_some_and(|service| !service.matches(named()));
        match other || !holds(seen, receive) {
            true => Finding::Refused,
            false if headers.contains_key("x-envoy-degraded") => Finding::Degraded,
            false => Finding::Passed,
        }
    } else if within(retriable_statuses) {
        Finding::Retriable
    } else {
        Finding::Refused
    }
}

/// Sends, then waits until what arrives holds each of `receive`, in order.
async fn tcp(stream: &mut Stream, send: Option<&[u8]>, receive: &[Arc<[u8]>]) -> Result<Finding, Lost> {
    if let Some(send) = send {
        stream.write_all(send).await?;
        stream.flush().await?;
    }
    let mut seen = BytesMut::new();
    while !holds(&seen, receive) {
        if seen.len() > LONGEST_ANSWER || stream.read_buf(&mut seen).await? == 0 {
            return Err(Lost);
        }
    }
    Ok(Finding::Passed)
}

fn holds(seen: &[u8], wanted: &[Arc<[u8]>]) -> bool {
    let mut rest = seen;
    wanted.iter().all(|part| {
        let at = (0..=rest.len().saturating_sub(part.len())).find(|at| rest[*at..].starts_with(part));
        at.map(|at| rest = &rest[at + part.len()..]).is_some()
    })
}

/// `grpc.health.v1.Health/Check`.
async fn grpc(send: &Http2, (service, metadata): (&str, &[(Str, Str)]), authority: &str) -> Result<Finding, Lost> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri(authority, "/grpc.health.v1.Health/Check")?)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "Envoy/HC")
        .body(())?;
    for (name, value) in metadata {
        request.headers_mut().append(HeaderName::from_bytes(name.as_bytes())?, value.parse()?);
    }
    let (response, mut body) = send.clone().ready().await?.send_request(request, false)?;
    body.send_data(health_request(service), true)?;
    let response = response.await?;
    let answered = response.status() == 200 && !failed(response.headers());
    let mut body = response.into_body();
    let message = read(&mut body).await?;
    let trailers = body.trailers().await?;
    let fine = answered && trailers.as_ref().is_some_and(|trailers| !failed(trailers)) && message == SERVING;
    Ok(if fine { Finding::Passed } else { Finding::Refused })
}

/// `HealthCheckRequest` with its `service` (field 1), as one gRPC message.
fn health_request(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            field.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        field.put_u8(length as u8);
        field.put_slice(service.as_bytes());
    }
    let mut message = BytesMut::with_capacity(5 + field.len());
    message.put_u8(0);
    message.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
    message.put_slice(&field);
    message.freeze()
}

/// Whether these headers or trailers hold a gRPC status other than OK.
fn failed(fields: &HeaderMap) -> bool {
    fields.get("grpc-status").is_some_and(|status| status != "0")
}

/// A body's beginning; all of it is taken off the connection.
async fn read(body: &mut h2::RecvStream) -> Result<BytesMut, Lost> {
    let mut seen = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if seen.len() + data.len() > LONGEST_ANSWER {
            return Err(Lost);
        }
        seen.put(data);
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tulle_connect::TlsDial;

    #[test]
    fn parts_must_come_in_order() {
        let wanted: Vec<Arc<[u8]>> = vec![b"+P"[..].into(), b"NG"[..].into()];
        assert!(holds(b"xx+PONG", &wanted));
        assert!(!holds(b"NG+PO", &wanted));
        assert!(!holds(b"+", &wanted));
        assert!(holds(b"", &[]));
    }

    #[test]
    fn statuses_are_expected_retriable_or_no() {
        let checker = HealthChecker::Http {
            host: None,
            path: "/".into(),
            method: "GET".into(),
            http2: false,
            expected_statuses: vec![(200, 300)],
            retriable_statuses: vec![(290, 504)],
            request_headers: Vec::new(),
            without_headers: Vec::new(),
            send: None,
            receive: vec![b"ok"[..].into()],
            receive_within: Some(3),
            service: None,
        };
        let degraded =
            HeaderMap::from_iter([(HeaderName::from_static("x-envoy-degraded"), HeaderValue::from_static(""))]);
        assert_eq!(judge(&checker, 200, &degraded, b"ok"), Finding::Degraded);
        assert_eq!(judge(&checker, 200, &HeaderMap::new(), b"not ok"), Finding::Refused, "not within three bytes");
        let found = |status| judge(&checker, status, &HeaderMap::new(), b"ok");
        assert_eq!(
            [299, 300, 503, 504].map(found),
            [Finding::Passed, Finding::Retriable, Finding::Retriable, Finding::Refused]
        );
    }

    #[test]
    fn a_health_request_names_its_service() {
        assert_eq!(&health_request("")[..], &[0, 0, 0, 0, 0]);
        assert_eq!(&health_request("ab")[..], &[0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(health_request(&"a".repeat(200))[5..8], [0x0a, 0xc8, 1]);
    }

    struct Plaintext;

    impl Dialer for Plaintext {
        fn tls(
            &self,
            _: &Arc<tulle_config::UpstreamTls>,
            _: &Endpoint,
            _: &[&[u8]],
            _: Option<&tulle_connect::ServerIs>,
        ) -> Result<TlsDial, DialError> {
            Err(DialError::Address)
        }
    }

    /// A cluster with one host and a gRPC health check of `shop`.
    fn cluster(port: u16) -> Arc<Cluster> {
        let text = format!(
            r#"
static_resources:
  clusters:
  - name: up
    type: STATIC
    load_assignment:
      cluster_name: up
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]
    health_checks:
    - {{timeout: 5s, interval: 5s, unhealthy_threshold: 1, healthy_threshold: 1, grpc_health_check: {{service_name: shop}}}}
"#
        );
        let loaded = tulle_xds::bootstrap::load(&text).unwrap();
        tulle_xds::ads::Client::new(&loaded.bootstrap).take_update().unwrap().clusters["up"].clone()
    }

    /// Answers each health call on one connection with the next of `answers`: a message and a gRPC status.
    async fn health_server(listener: tokio::net::TcpListener, answers: Vec<(&'static [u8], &'static str)>) {
        let (socket, _) = listener.accept().await.unwrap();
        let mut server = h2::server::handshake(socket).await.unwrap();
        for (message, status) in answers {
            let (request, mut respond) = server.accept().await.unwrap().unwrap();
            assert_eq!(
                (request.uri().path(), request.uri().authority().unwrap().as_str()),
                ("/grpc.health.v1.Health/Check", "up")
            );
            let mut send = respond.send_response(http::Response::new(()), false).unwrap();
            send.send_data(Bytes::from_static(message), false).unwrap();
            let trailers =
                HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))]);
            send.send_trailers(trailers).unwrap();
        }
        while server.accept().await.is_some() {}
    }

    #[tokio::test]
    async fn grpc_health_is_asked_over_one_connection_until_it_ends() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cluster = cluster(port);
        let settings = cluster.health_checks[0].clone();
        let endpoint = Endpoint::new(tulle_core::Address::Ip(([127, 0, 0, 1], port).into()));
        let mut probe = Probe::new(Rc::new(Plaintext), cluster, endpoint, &settings);
        let local = tokio::task::LocalSet::new();
        let not_serving: &[u8] = &[0, 0, 0, 0, 2, 0x08, 2];
        let answers = vec![(SERVING, "0"), (not_serving, "0"), (SERVING, "5")];
        local
            .run_until(async {
                let server = tokio::task::spawn_local(health_server(listener, answers));
                for expected in [Finding::Passed, Finding::Refused, Finding::Refused] {
                    assert_eq!(probe.run(&settings).await, expected);
                }
                server.abort();
                assert!(server.await.unwrap_err().is_cancelled());
                assert_eq!(probe.run(&settings).await, Finding::Unreachable);
            })
            .await;
    }
}
