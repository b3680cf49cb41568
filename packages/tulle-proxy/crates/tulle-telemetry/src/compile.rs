//! Compiles Envoy's format syntax into operations; unknown operators and bad arguments are errors, never literals.

use tulle_core::Str;

use crate::format::{AddressHalf, FormatError, GrpcStyle, Op, Query, Source, Unit};
use crate::strftime::TimeFormat;
use crate::view::{Field, HeadPart, TimePoint};

/// Compiles `format`.
pub fn compile(format: &str) -> Result<Vec<Op>, FormatError> {
    let mut ops = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(offset) = format[at..].find('%') {
        literal.push_str(&format[at..at + offset]);
        at += offset;
        if format[at + 1..].starts_with('%') {
            literal.push('%');
            at += 2;
            continue;
        }
        let command = Command::read(format, at)?;
        if !literal.is_empty() {
            ops.push(Op::Literal(std::mem::take(&mut literal).into()));
        }
        let source = command.source().map_err(|reason| FormatError { at, reason })?;
        ops.push(Op::Operator { source, max: command.max });
        at = command.end;
    }
    literal.push_str(&format[at..]);
    if !literal.is_empty() {
        ops.push(Op::Literal(literal.into()));
    }
    Ok(ops)
}

/// One `%NAME(argument):max%`.
struct Command<'f> {
    name: &'f str,
    argument: Option<&'f str>,
    max: Option<usize>,
    /// Offset behind the closing percent sign.
    end: usize,
}

impl<'f> Command<'f> {
    fn read(format: &'f str, at: usize) -> Result<Self, FormatError> {
        let fail = |reason: &str| FormatError { at, reason: reason.to_owned() };
        let body = &format[at + 1..];
        let word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let length = body.find(|c| !word(c)).unwrap_or(body.len());
        let (name, mut rest) = body.split_at(length);
        if name.is_empty() {
            return Err(fail("expected an operator's name after %"));
        }
        let mut argument = None;
        if let Some(inner) = rest.strip_prefix('(') {
            let close = inner.find(')').ok_or_else(|| fail("the argument is not closed by )"))?;
            argument = Some(&inner[..close]);
            rest = &inner[close + 1..];
        }
        let mut max = None;
        if let Some(digits) = rest.strip_prefix(':') {
            let length = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            max = Some(digits[..length].parse().map_err(|_| fail("the length after : is not a number"))?);
            rest = &digits[length..];
        }
        let rest = rest.strip_prefix('%').ok_or_else(|| fail("the operator is not closed by %"))?;
        Ok(Command { name, argument, max, end: format.len() - rest.len() })
    }

    fn source(&self) -> Result<Source, String> {
        if let Some(source) = self.with_argument()? {
            return Ok(source);
        }
        if self.argument.is_some_and(|argument| !argument.is_empty()) {
            return Err(format!("%{}% takes no argument", self.name));
        }
        self.plain().ok_or_else(|| format!("unknown operator %{}%", self.name))
    }

    fn with_argument(&self) -> Result<Option<Source>, String> {
        let source = match self.name {
            "REQ" | "REQUEST_HEADER" => self.header(HeadPart::Request, Query::Keep)?,
            "RESP" | "RESPONSE_HEADER" => self.header(HeadPart::Response, Query::Keep)?,
            "REQ_WITHOUT_QUERY" => self.header(HeadPart::Request, Query::Strip)?,
            "RESP_WITHOUT_QUERY" => self.header(HeadPart::Response, Query::Strip)?,
            "PATH" => self.path()?,
            "QUERY_PARAM" => Source::QueryParameter(self.required()?.into()),
            "START_TIME" => Source::StartTime(self.time_format()?),
            "DOWNSTREAM_PEER_CERT_V_START" => self.time(Field::DownstreamPeerCertStart)?,
            "DOWNSTREAM_PEER_CERT_V_END" => self.time(Field::DownstreamPeerCertEnd)?,
            "UPSTREAM_PEER_CERT_V_START" => self.time(Field::UpstreamPeerCertStart)?,
            "UPSTREAM_PEER_CERT_V_END" => self.time(Field::UpstreamPeerCertEnd)?,
            "COMMON_DURATION" => self.common_duration()?,
            "GRPC_STATUS" => Source::GrpcStatus(match self.argument {
                None | Some("" | "CAMEL_STRING") => GrpcStyle::Camel,
                Some("SNAKE_STRING") => GrpcStyle::Snake,
                Some("NUMBER") => GrpcStyle::Number,
                Some(other) => return Err(format!("unknown gRPC status style {other:?}")),
            }),
            "DYNAMIC_METADATA" => metadata(self.required()?)?,
            "METADATA" => match self.required()?.split_once(':') {
                Some(("DYNAMIC", path)) => metadata(path)?,
                _ => return Err("only metadata of the kind DYNAMIC is known here".to_owned()),
            },
            "ENVIRONMENT" => Source::Environment(self.required()?.into()),
            _ => return Ok(None),
        };
        Ok(Some(source))
    }

    fn time_format(&self) -> Result<TimeFormat, String> {
        match self.argument {
            None | Some("") => Ok(TimeFormat::default()),
            Some(format) => TimeFormat::parse(format).map_err(|error| error.to_string()),
        }
    }

    fn time(&self, field: Field) -> Result<Source, String> {
        Ok(Source::Time { field, format: self.time_format()? })
    }

    fn required(&self) -> Result<&'f str, String> {
        self.argument.filter(|text| !text.is_empty()).ok_or_else(|| format!("%{}% needs an argument", self.name))
    }

    fn header(&self, part: HeadPart, query: Query) -> Result<Source, String> {
        let mut names = self.required()?.split('?');
        let lower = |name: &str| -> Result<Str, String> {
            let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:!#$&'*+^`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(word) {
                return Err(format!("{name:?} is not a header name"));
            }
            Ok(name.to_ascii_lowercase().into())
        };
        let name = lower(names.next().unwrap_or_default())?;
        let alternative = names.next().map(lower).transpose()?;
        if names.next().is_some() {
            return Err("at most one alternative header".to_owned());
        }
        // A status is no field of the head here.
        if part == HeadPart::Response && &*name == ":status" {
            return Ok(Source::Field(Field::ResponseCode));
        }
        Ok(Source::Header { part, name, alternative, query })
    }

    /// `%PATH(WQ|NQ:ORIG|PATH|ORIG_OR_PATH)%`: with the query or without, before rewriting or as it is.
    fn path(&self) -> Result<Source, String> {
        let (query, which) =
            self.argument.unwrap_or_default().split_once(':').unwrap_or((self.argument.unwrap_or_default(), ""));
        let query = match query {
            "" | "WQ" => Query::Keep,
            "NQ" => Query::Strip,
            other => return Err(format!("{other:?} is neither WQ nor NQ")),
        };
        let (name, alternative) = match which {
            "ORIG" => ("x-envoy-original-path", None),
            "PATH" => (":path", None),
            "" | "ORIG_OR_PATH" => ("x-envoy-original-path", Some(":path".into())),
            other => return Err(format!("{other:?} is none of ORIG, PATH and ORIG_OR_PATH")),
        };
        Ok(Source::Header { part: HeadPart::Request, name: name.into(), alternative, query })
    }

    fn common_duration(&self) -> Result<Source, String> {
        let parts: Vec<&str> = self.required()?.split(':').collect();
        let [from, to, unit] = parts[..] else { return Err("expected start:end:precision".to_owned()) };
        let point = |name: &str| {
            let found = POINTS.iter().find(|(known, _)| *known == name);
            found.map(|(_, point)| *point).ok_or_else(|| format!("unknown time point {name:?}"))
        };
        let unit = match unit {
            "ms" => Unit::Milliseconds,
            "us" => Unit::Microseconds,
            "ns" => Unit::Nanoseconds,
            other => return Err(format!("unknown precision {other:?}")),
        };
        Ok(Source::Elapsed { from: point(from)?, to: point(to)?, unit })
    }

    fn plain(&self) -> Option<Source> {
        let span = |from, to| Source::Elapsed { from, to, unit: Unit::Milliseconds };
        Some(match self.name {
            "DURATION" => span(TimePoint::DownstreamStart, TimePoint::Complete),
            "REQUEST_DURATION" => span(TimePoint::DownstreamStart, TimePoint::DownstreamRxEnd),
            "REQUEST_TX_DURATION" => span(TimePoint::DownstreamStart, TimePoint::UpstreamTxEnd),
            "RESPONSE_DURATION" => span(TimePoint::DownstreamStart, TimePoint::UpstreamRxStart),
            "RESPONSE_TX_DURATION" => span(TimePoint::UpstreamRxStart, TimePoint::DownstreamTxEnd),
            "UPSTREAM_CONNECTION_POOL_READY_DURATION" => {
                span(TimePoint::DownstreamStart, TimePoint::UpstreamConnectEnd)
            }
            "RESPONSE_FLAGS_LONG" => Source::FlagsLong,
            // Envoy's id of a stream is the request's.
            "STREAM_ID" => Source::Header {
                part: HeadPart::Request,
                name: "x-request-id".into(),
                alternative: None,
                query: Query::Keep,
            },
            name => match FIELDS.iter().find(|(known, _)| *known == name) {
                Some((_, field)) => Source::Field(*field),
                None => return half_address(name),
            },
        })
    }
}

/// `namespace:key:key`.
fn metadata(path: &str) -> Result<Source, String> {
    let mut parts = path.split(':').map(Str::from);
    let namespace = parts.next().unwrap_or_default();
    let path: Box<[Str]> = parts.collect();
    match namespace.is_empty() || path.is_empty() {
        true => Err("expected namespace:key".to_owned()),
        false => Ok(Source::Metadata { namespace, path }),
    }
}

fn half_address(name: &str) -> Option<Source> {
    let without = name.strip_suffix("_WITHOUT_PORT").map(|base| (base, AddressHalf::Ip));
    let (base, half) = without.or_else(|| name.strip_suffix("_PORT").map(|base| (base, AddressHalf::Port)))?;
    let base = if base == "UPSTREAM_HOST" || base.ends_with("_ADDRESS") { base } else { &format!("{base}_ADDRESS") };
    let (_, field) = FIELDS.iter().find(|(known, _)| *known == base)?;
    Some(Source::Address { field: *field, half })
}

const POINTS: &[(&str, TimePoint)] = &[
    ("DS_RX_BEG", TimePoint::DownstreamStart),
    ("DS_RX_END", TimePoint::DownstreamRxEnd),
    ("US_CX_BEG", TimePoint::UpstreamConnectStart),
    ("US_CX_END", TimePoint::UpstreamConnectEnd),
    ("US_TX_BEG", TimePoint::UpstreamTxStart),
    ("US_TX_END", TimePoint::UpstreamTxEnd),
    ("US_RX_BEG", TimePoint::UpstreamRxStart),
    ("US_RX_END", TimePoint::UpstreamRxEnd),
    ("DS_TX_BEG", TimePoint::DownstreamTxStart),
    ("DS_TX_END", TimePoint::DownstreamTxEnd),
];

/// Operators without arguments, with the field each prints.
const FIELDS: &[(&str, Field)] = &[
    ("PROTOCOL", Field::Protocol),
    ("UPSTREAM_PROTOCOL", Field::UpstreamProtocol),
    ("RESPONSE_CODE", Field::ResponseCode),
    ("RESPONSE_CODE_DETAILS", Field::ResponseCodeDetails),
    ("CONNECTION_TERMINATION_DETAILS", Field::ConnectionTerminationDetails),
    ("RESPONSE_FLAGS", Field::ResponseFlags),
    ("BYTES_RECEIVED", Field::BytesReceived),
    ("BYTES_SENT", Field::BytesSent),
    ("REQUEST_HEADERS_BYTES", Field::RequestHeadersBytes),
    ("RESPONSE_HEADERS_BYTES", Field::ResponseHeadersBytes),
    ("UPSTREAM_HOST", Field::UpstreamHost),
    ("UPSTREAM_HOST_NAME", Field::UpstreamHostName),
    ("UPSTREAM_CLUSTER", Field::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Field::UpstreamClusterRaw),
    ("UPSTREAM_LOCAL_ADDRESS", Field::UpstreamLocalAddress),
    ("UPSTREAM_REMOTE_ADDRESS", Field::UpstreamRemoteAddress),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Field::UpstreamTransportFailureReason),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Field::UpstreamRequestAttemptCount),
    ("UPSTREAM_CONNECTION_ID", Field::UpstreamConnectionId),
    ("UPSTREAM_TLS_VERSION", Field::UpstreamTlsVersion),
    ("UPSTREAM_TLS_CIPHER", Field::UpstreamTlsCipher),
    ("UPSTREAM_PEER_URI_SAN", Field::UpstreamPeerUriSan),
    ("UPSTREAM_PEER_DNS_SAN", Field::UpstreamPeerDnsSan),
    ("UPSTREAM_PEER_SUBJECT", Field::UpstreamPeerSubject),
    ("UPSTREAM_PEER_ISSUER", Field::UpstreamPeerIssuer),
    ("UPSTREAM_PEER_CERT", Field::UpstreamPeerCert),
    ("UPSTREAM_LOCAL_URI_SAN", Field::UpstreamLocalUriSan),
    ("UPSTREAM_LOCAL_DNS_SAN", Field::UpstreamLocalDnsSan),
    ("DOWNSTREAM_LOCAL_ADDRESS", Field::DownstreamLocalAddress),
    ("DOWNSTREAM_REMOTE_ADDRESS", Field::DownstreamRemoteAddress),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Field::DownstreamDirectRemoteAddress),
    ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", Field::DownstreamTransportFailureReason),
    ("DOWNSTREAM_TLS_VERSION", Field::DownstreamTlsVersion),
    ("DOWNSTREAM_TLS_CIPHER", Field::DownstreamTlsCipher),
    ("DOWNSTREAM_PEER_URI_SAN", Field::DownstreamPeerUriSan),
    ("DOWNSTREAM_PEER_DNS_SAN", Field::DownstreamPeerDnsSan),
    ("DOWNSTREAM_PEER_IP_SAN", Field::DownstreamPeerIpSan),
    ("DOWNSTREAM_PEER_EMAIL_SAN", Field::DownstreamPeerEmailSan),
    ("DOWNSTREAM_PEER_SUBJECT", Field::DownstreamPeerSubject),
    ("DOWNSTREAM_PEER_ISSUER", Field::DownstreamPeerIssuer),
    ("DOWNSTREAM_PEER_SERIAL", Field::DownstreamPeerSerial),
    ("DOWNSTREAM_PEER_FINGERPRINT_1", Field::DownstreamPeerFingerprint1),
    ("DOWNSTREAM_PEER_FINGERPRINT_256", Field::DownstreamPeerFingerprint256),
    ("DOWNSTREAM_PEER_CERT", Field::DownstreamPeerCert),
    ("DOWNSTREAM_LOCAL_URI_SAN", Field::DownstreamLocalUriSan),
    ("DOWNSTREAM_LOCAL_DNS_SAN", Field::DownstreamLocalDnsSan),
    ("DOWNSTREAM_LOCAL_SUBJECT", Field::DownstreamLocalSubject),
    ("REQUESTED_SERVER_NAME", Field::RequestedServerName),
    ("ROUTE_NAME", Field::RouteName),
    ("VIRTUAL_CLUSTER_NAME", Field::VirtualClusterName),
    ("FILTER_CHAIN_NAME", Field::FilterChainName),
    ("LISTENER_NAME", Field::ListenerName),
    ("CONNECTION_ID", Field::ConnectionId),
    ("TRACE_ID", Field::TraceId),
    ("SPAN_ID", Field::SpanId),
    ("HOSTNAME", Field::Hostname),
    ("GRPC_STATUS_NUMBER", Field::GrpcStatusNumber),
    ("ACCESS_LOG_TYPE", Field::AccessLogType),
    ("LOCAL_REPLY_BODY", Field::LocalReplyBody),
];
