//! What is remembered of an exchange, and how logs and header formats see it.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tulle_balance::Host;
use tulle_config::access_log::LineKind;
use tulle_connect::Way;
use tulle_core::metadata::Metadata;
use tulle_core::{Nanos, ResponseFlags, Str, UnixNanos};
use tulle_http::{Headers, RequestHead, ResponseHead, Version};
use tulle_identity::presented::{CertificateText, Presented};
use tulle_policy::outcome::grpc_of_http;
use tulle_route::redirects::Followed;
use tulle_telemetry::{Field, HeadPart, LogView, Owner, TimePoint, TraceContext, Value};

use super::filters::Edits;
use crate::serve::Client;
use crate::worker::Target;
use crate::worker::tls::Secured;

/// Facts gathered while an exchange runs.
pub struct Record {
    pub start: Nanos,
    pub wall: UnixNanos,
    pub flags: ResponseFlags,
    /// 0 until a response's head went to the client.
    pub status: u16,
    pub details: Cow<'static, str>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub request_head_bytes: u64,
    pub response_head_bytes: u64,
    pub attempts: u32,
    /// No more retries are made although the last attempt failed, and the caller is told so.
    pub retried: bool,
    pub target: Option<Rc<Target>>,
    /// The client behind other proxies, where one is told and trusted.
    pub remote: Option<IpAddr>,
    pub cluster: Option<Str>,
    /// Where the request would have gone, had no filter answered it.
    pub kept_back_from: Option<Rc<Target>>,
    /// What filters add to the response.
    pub edits: Option<Box<Edits>>,
    pub host: Option<Rc<Host>>,
    pub upstream_version: Option<Version>,
    /// The connection that was used last.
    pub way: Option<Rc<Way>>,
    pub transport_failure: String,
    pub route: Option<Str>,
    pub grpc: bool,
    pub grpc_status: Option<u16>,
    /// What came behind the response's body.
    pub trailers: Option<Box<Headers>>,
    pub trace: Option<TraceContext>,
    /// What filters found out of the request.
    pub metadata: Option<Arc<Metadata>>,
    /// Redirects that were followed for the request.
    pub followed: Option<Box<Followed>>,
    times: [Option<Nanos>; TimePoint::COUNT],
}

impl Record {
    pub fn new(start: Nanos, wall: UnixNanos) -> Record {
        let mut record = Record {
            start,
            wall,
            flags: ResponseFlags::NONE,
            status: 0,
            details: Cow::Borrowed(""),
            request_bytes: 0,
            response_bytes: 0,
            request_head_bytes: 0,
            response_head_bytes: 0,
            attempts: 0,
            retried: false,
            target: None,
            remote: None,
            cluster: None,
            kept_back_from: None,
            edits: None,
            host: None,
            upstream_version: None,
            way: None,
            transport_failure: String::new(),
            route: None,
            grpc: false,
            grpc_status: None,
            trailers: None,
            trace: None,
            metadata: None,
            followed: None,
            times: [None; TimePoint::COUNT],
        };
        record.mark(TimePoint::DownstreamStart, start);
        record
    }

    /// Remembers when something happened.
    pub fn mark(&mut self, point: TimePoint, at: Nanos) {
        self.times[point as usize] = Some(at);
    }

    /// Takes over what a filter found out, beside what is known. Later values of a key replace earlier ones.
    pub fn learn(&mut self, found: &Arc<Metadata>) {
        let Some(known) = &mut self.metadata else {
            self.metadata = Some(found.clone());
            return;
        };
        let known = Arc::make_mut(known);
        for (filter, fields) in &found.filters {
            let into = known.filters.entry(filter.clone()).or_default();
            into.extend(fields.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    }

    pub fn at(&self, point: TimePoint) -> Option<Nanos> {
        self.times[point as usize]
    }
}

/// An exchange as formats look at it.
pub struct View<'a> {
    pub client: &'a Client,
    pub request: &'a RequestHead,
    pub response: Option<&'a ResponseHead>,
    pub record: &'a Record,
    /// The cluster's metadata, once something asked for it.
    cluster: OnceCell<Arc<Metadata>>,
}

impl<'a> View<'a> {
    pub fn new(
        client: &'a Client,
        request: &'a RequestHead,
        response: Option<&'a ResponseHead>,
        record: &'a Record,
    ) -> View<'a> {
        View { client, request, response, record, cluster: OnceCell::new() }
    }
}

impl View<'_> {
    /// What the line is about: a connection without HTTP has neither a request nor an answer.
    pub fn kind(&self) -> LineKind {
        let connection = self.request.method().is_empty() && self.record.status == 0;
        if connection { LineKind::TcpConnectionEnd } else { LineKind::DownstreamEnd }
    }

    fn request_part(&self, name: &str) -> Option<&[u8]> {
        match name {
            ":method" => Some(self.request.method()).filter(|m| !m.is_empty()),
            ":path" => Some(self.request.path()).filter(|p| !p.is_empty()),
            ":authority" | "host" => Some(self.request.authority()).filter(|a| !a.is_empty()),
            ":scheme" if self.request.method().is_empty() => None,
            ":scheme" if self.request.secure_scheme => Some(b"https"),
            ":scheme" => Some(b"http"),
            _ => self.request.headers.get(name.as_bytes()),
        }
    }

    fn connection_field(&self, field: Field) -> Option<Value<'_>> {
        let client = self.client;
        let tls = client.tls.as_ref();
        let peer = || tls.and_then(|tls| tls.secured.peer.as_deref());
        let own = || tls.and_then(|tls| tls.secured.own.as_deref());
        Some(match field {
            // A connection without HTTP has neither a request nor an answer.
            Field::Protocol if self.request.method().is_empty() && self.record.status == 0 => Value::None,
            Field::Protocol => self.request.version.as_str().into(),
            Field::DownstreamLocalAddress => Value::Socket(client.local),
            Field::DownstreamRemoteAddress => {
                Value::Socket(self.record.remote.map_or(client.peer, |remote| (remote, 0).into()))
            }
            Field::DownstreamDirectRemoteAddress => Value::Socket(client.direct),
            Field::DownstreamPeerUriSan => certificate(peer(), |text| &text.uris),
            Field::DownstreamPeerDnsSan => certificate(peer(), |text| &text.dns),
            Field::DownstreamPeerIpSan => certificate(peer(), |text| &text.ips),
            Field::DownstreamPeerEmailSan => certificate(peer(), |text| &text.emails),
            Field::DownstreamPeerSubject => certificate(peer(), |text| &text.subject),
            Field::DownstreamPeerIssuer => certificate(peer(), |text| &text.issuer),
            Field::DownstreamPeerSerial => certificate(peer(), |text| &text.serial),
            Field::DownstreamPeerFingerprint1 => certificate(peer(), |text| &text.sha1),
            Field::DownstreamPeerFingerprint256 => certificate(peer(), |text| &text.sha256),
            Field::DownstreamPeerCert => certificate(peer(), |text| &text.pem),
            Field::DownstreamPeerCertStart => time(peer(), |text| text.from),
            Field::DownstreamPeerCertEnd => time(peer(), |text| text.until),
            Field::DownstreamLocalUriSan => certificate(own(), |text| &text.uris),
            Field::DownstreamLocalDnsSan => certificate(own(), |text| &text.dns),
            Field::DownstreamLocalIpSan => certificate(own(), |text| &text.ips),
            Field::DownstreamLocalEmailSan => certificate(own(), |text| &text.emails),
            Field::DownstreamLocalSubject => certificate(own(), |text| &text.subject),
            Field::DownstreamTlsVersion => tls.map(|t| t.secured.version).into(),
            Field::DownstreamTlsCipher => tls.map(|t| t.secured.cipher).into(),
            Field::DownstreamTlsGroup => tls.and_then(|t| t.secured.group).into(),
            // As Envoy: what inspection found, whoever ends the TLS.
            Field::RequestedServerName => client.server_name.as_deref().into(),
            Field::ConnectionId => Value::Number(client.id),
            Field::FilterChainName => Some(&*client.chain).filter(|name| !name.is_empty()).into(),
            Field::ListenerName => Value::from(&*client.listener.name),
            _ => return None,
        })
    }

    fn upstream_field(&self, field: Field) -> Option<Value<'_>> {
        let record = self.record;
        let address = record.host.as_ref().and_then(|host| host.endpoint.address.socket());
        let tls = || record.way.as_ref()?.secured.as_ref()?.downcast_ref::<Secured>();
        let peer = || tls()?.peer.as_deref();
        let own = || tls()?.own.as_deref();
        Some(match field {
            Field::UpstreamLocalAddress => {
                record.way.as_ref().and_then(|way| way.local).map_or(Value::None, Value::Socket)
            }
            Field::UpstreamConnectionId => record.way.as_ref().map_or(Value::None, |way| Value::Number(way.id)),
            Field::UpstreamTlsVersion => tls().map(|tls| tls.version).into(),
            Field::UpstreamTlsCipher => tls().map(|tls| tls.cipher).into(),
            Field::UpstreamTlsGroup => tls().and_then(|tls| tls.group).into(),
            Field::UpstreamPeerUriSan => certificate(peer(), |text| &text.uris),
            Field::UpstreamPeerDnsSan => certificate(peer(), |text| &text.dns),
            Field::UpstreamPeerIpSan => certificate(peer(), |text| &text.ips),
            Field::UpstreamPeerSubject => certificate(peer(), |text| &text.subject),
            Field::UpstreamPeerIssuer => certificate(peer(), |text| &text.issuer),
            Field::UpstreamPeerCert => certificate(peer(), |text| &text.pem),
            Field::UpstreamPeerCertStart => time(peer(), |text| text.from),
            Field::UpstreamPeerCertEnd => time(peer(), |text| text.until),
            Field::UpstreamLocalUriSan => certificate(own(), |text| &text.uris),
            Field::UpstreamLocalDnsSan => certificate(own(), |text| &text.dns),
            Field::UpstreamLocalIpSan => certificate(own(), |text| &text.ips),
            Field::UpstreamHost | Field::UpstreamRemoteAddress => address.map_or(Value::None, Value::Socket),
            Field::UpstreamHostName => record.host.as_ref().and_then(|host| host.endpoint.hostname.as_deref()).into(),
            Field::UpstreamCluster | Field::UpstreamClusterRaw => record.cluster.as_deref().into(),
            Field::UpstreamProtocol => record.upstream_version.map(Version::as_str).into(),
            Field::UpstreamTransportFailureReason => {
                Some(record.transport_failure.as_str()).filter(|reason| !reason.is_empty()).into()
            }
            Field::UpstreamRequestAttemptCount => Value::Number(u64::from(record.attempts)),
            _ => return None,
        })
    }
}

/// A text of a certificate, where there is one and it has any.
fn certificate<'a>(of: Option<&'a Presented>, text: impl Fn(&'a CertificateText) -> &'a str) -> Value<'a> {
    of.map(|of| text(of.text())).filter(|text| !text.is_empty()).into()
}

fn time<'a>(of: Option<&'a Presented>, time: impl Fn(&CertificateText) -> Option<UnixNanos>) -> Value<'a> {
    of.and_then(|of| time(of.text())).map_or(Value::None, Value::Time)
}

/// This machine's name, asked for once.
fn hostname() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        if name.trim().is_empty() { "-".to_owned() } else { name.trim().to_owned() }
    })
}

impl LogView for View<'_> {
    fn header(&self, part: HeadPart, name: &str) -> Option<&[u8]> {
        match part {
            HeadPart::Request => self.request_part(name),
            HeadPart::Response => self.response.and_then(|head| head.headers.get(name.as_bytes())),
            HeadPart::Trailers => self.record.trailers.as_ref().and_then(|trailers| trailers.get(name.as_bytes())),
        }
    }

    fn field(&self, field: Field) -> Value<'_> {
        let record = self.record;
        match field {
            Field::ResponseCode => Value::Number(u64::from(record.status)),
            Field::ResponseCodeDetails if record.details.is_empty() => Value::None,
            Field::ResponseCodeDetails => Value::from(&*record.details),
            Field::ResponseFlags => Value::Flags(record.flags),
            Field::BytesReceived => Value::Number(record.request_bytes),
            Field::BytesSent => Value::Number(record.response_bytes),
            Field::RequestHeadersBytes => Value::Number(record.request_head_bytes),
            Field::ResponseHeadersBytes => Value::Number(record.response_head_bytes),
            Field::RouteName => record.route.as_deref().filter(|name| !name.is_empty()).into(),
            Field::TraceId => record.trace.as_ref().map_or(Value::None, |trace| Value::Hex(trace.trace_id, 32)),
            Field::SpanId => record.trace.as_ref().map_or(Value::None, |trace| Value::Hex(trace.span_id.into(), 16)),
            Field::Hostname => Value::from(hostname()),
            Field::AccessLogType if self.request.method().is_empty() && record.status == 0 => {
                Value::from("TcpConnectionEnd")
            }
            Field::AccessLogType => Value::from("DownstreamEnd"),
            Field::LocalReplyBody => Value::from(""),
            Field::GrpcStatusNumber => {
                let meant = || record.grpc.then(|| grpc_of_http(record.status));
                record.grpc_status.or_else(meant).map_or(Value::None, |status| Value::Number(u64::from(status)))
            }
            other => self.connection_field(other).or_else(|| self.upstream_field(other)).unwrap_or(Value::None),
        }
    }

    fn metadata(&self, owner: Owner) -> Option<&Metadata> {
        match owner {
            Owner::Request => self.record.metadata.as_deref(),
            Owner::Cluster => {
                let target = self.record.target.as_ref().or(self.record.kept_back_from.as_ref())?;
                Some(self.cluster.get_or_init(|| target.upstream.config_ref().metadata.clone()))
            }
        }
    }

    fn start_time(&self) -> UnixNanos {
        self.record.wall
    }

    fn elapsed(&self, point: TimePoint) -> Option<Duration> {
        self.record.at(point).map(|at| at - self.record.start)
    }
}
