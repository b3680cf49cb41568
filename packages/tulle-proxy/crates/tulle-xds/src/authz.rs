//! Envoy's authorization protocol (`envoy.service.auth.v3`): what an authorizer is told, and what it answers, as bytes
//! of one gRPC message.

use std::net::SocketAddr;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::service::auth::v3 as auth_pb;
use envoy_types::pb::google::protobuf;
use tulle_core::Metadata;
use tulle_core::metadata::{Struct, Value};

use crate::decode::common::struct_to_map;
use crate::grpc::{field, framed, unframed};

/// What is asked.
#[derive(Debug)]
pub struct Question<'q> {
    pub source: SocketAddr,
    pub source_principal: &'q str,
    pub destination: SocketAddr,
    pub destination_principal: &'q str,
    pub server_name: Option<&'q str>,
    pub time: std::time::Duration,
    pub id: &'q str,
    pub method: &'q str,
    pub path: &'q str,
    pub host: &'q str,
    pub scheme: &'q str,
    pub protocol: &'q str,
    pub headers: Vec<(String, String)>,
    pub body: &'q [u8],
    pub body_as_bytes: bool,
    /// The whole body's length, where it is known.
    pub size: i64,
    pub context: Vec<(String, String)>,
    pub metadata: Option<Metadata>,
}

/// What is asked about a connection.
#[derive(Debug)]
pub struct Ends<'q> {
    pub source: SocketAddr,
    pub source_principal: &'q str,
    pub destination: SocketAddr,
    pub destination_principal: &'q str,
    pub server_name: Option<&'q str>,
}

/// What is answered.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Allowed(Allowed),
    Refused(Refused),
}

#[derive(Debug, Default, PartialEq)]
pub struct Allowed {
    /// Replace the request's fields of these names.
    pub set: Vec<(String, Vec<u8>)>,
    /// Joined to the request's value of this name, if it has one.
    pub append: Vec<(String, Vec<u8>)>,
    /// Fields of their own, beside those of the same name.
    pub add: Vec<(String, Vec<u8>)>,
    pub remove: Vec<String>,
    pub response_set: Vec<(String, Vec<u8>)>,
    pub response_append: Vec<(String, Vec<u8>)>,
    pub query_set: Vec<(String, String)>,
    pub query_remove: Vec<String>,
    pub metadata: Option<Struct>,
}

impl Allowed {
    /// Whether routing may see anything of it.
    pub fn changes_request(&self) -> bool {
        let fields = self.set.len() + self.append.len() + self.add.len() + self.remove.len();
        fields + self.query_set.len() + self.query_remove.len() > 0 || self.metadata.is_some()
    }
}

#[derive(Debug, PartialEq)]
pub struct Refused {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub metadata: Option<Struct>,
}

/// The call's method.
pub const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";

/// One length-prefixed gRPC message.
pub fn ask(question: Question<'_>) -> Bytes {
    let (body, raw_body) = if question.body_as_bytes {
        (String::new(), question.body.to_vec())
    } else {
        (String::from_utf8_lossy(question.body).into_owned(), Vec::new())
    };
    let http = auth_pb::attribute_context::HttpRequest {
        id: question.id.to_owned(),
        method: question.method.to_owned(),
        headers: joined(question.headers),
        path: question.path.to_owned(),
        host: question.host.to_owned(),
        scheme: question.scheme.to_owned(),
        size: question.size,
        protocol: question.protocol.to_owned(),
        body,
        raw_body,
        ..Default::default()
    };
    let time = protobuf::Timestamp {
        seconds: i64::try_from(question.time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(question.time.subsec_nanos()).unwrap_or(0),
    };
    let attributes = auth_pb::AttributeContext {
        source: Some(peer(question.source, question.source_principal)),
        destination: Some(peer(question.destination, question.destination_principal)),
        request: Some(auth_pb::attribute_context::Request { time: Some(time), http: Some(http) }),
        context_extensions: question.context.into_iter().collect(),
        metadata_context: Some(question.metadata.map(metadata).unwrap_or_default()),
        tls_session: tls_session(question.server_name),
        ..Default::default()
    };
    framed(&auth_pb::CheckRequest { attributes: Some(attributes) })
}

/// The same about a connection, of which there is less to tell.
pub fn ask_about(ends: &Ends<'_>) -> Bytes {
    let attributes = auth_pb::AttributeContext {
        source: Some(peer(ends.source, ends.source_principal)),
        destination: Some(peer(ends.destination, ends.destination_principal)),
        tls_session: tls_session(ends.server_name),
        ..Default::default()
    };
    framed(&auth_pb::CheckRequest { attributes: Some(attributes) })
}

fn peer(address: SocketAddr, principal: &str) -> auth_pb::attribute_context::Peer {
    auth_pb::attribute_context::Peer {
        address: Some(socket_address(address)),
        principal: principal.to_owned(),
        ..Default::default()
    }
}

fn tls_session(server_name: Option<&str>) -> Option<auth_pb::attribute_context::TlsSession> {
    server_name.map(|name| auth_pb::attribute_context::TlsSession { sni: name.to_owned() })
}

/// Values of one name are joined by commas, as Envoy does.
fn joined(headers: Vec<(String, String)>) -> std::collections::HashMap<String, String> {
    let mut all = std::collections::HashMap::<String, String>::new();
    for (name, value) in headers {
        all.entry(name)
            .and_modify(|known| {
                known.push(',');
                known.push_str(&value);
            })
            .or_insert(value);
    }
    all
}

fn socket_address(address: SocketAddr) -> core_pb::Address {
    use core_pb::address::Address as Kind;
    use core_pb::socket_address::PortSpecifier;
    core_pb::Address {
        address: Some(Kind::SocketAddress(core_pb::SocketAddress {
            address: address.ip().to_canonical().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(u32::from(address.port()))),
            ..Default::default()
        })),
    }
}

fn metadata(known: Metadata) -> core_pb::Metadata {
    let fields = known.filters.into_iter().map(|(name, fields)| (name.to_string(), to_struct(&fields)));
    core_pb::Metadata { filter_metadata: fields.collect(), ..Default::default() }
}

fn to_struct(fields: &Struct) -> protobuf::Struct {
    protobuf::Struct { fields: fields.iter().map(|(name, value)| (name.to_string(), to_value(value))).collect() }
}

fn to_value(value: &Value) -> protobuf::Value {
    use protobuf::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        Value::Number(number) => Kind::NumberValue(*number),
        Value::String(text) => Kind::StringValue(text.to_string()),
        Value::List(items) => Kind::ListValue(protobuf::ListValue { values: items.iter().map(to_value).collect() }),
        Value::Struct(fields) => Kind::StructValue(to_struct(fields)),
    };
    protobuf::Value { kind: Some(kind) }
}

/// Reads the answer's one message; `None` when it is none, or says what no header or status can be.
pub fn answered(bytes: &[u8]) -> Option<Answer> {
    let response: auth_pb::CheckResponse = unframed(bytes)?;
    let found = response.dynamic_metadata.map(struct_to_map);
    let allowed = response.status.is_none_or(|status| status.code == 0);
    use auth_pb::check_response::HttpResponse;
    match (allowed, response.http_response) {
        (true, Some(HttpResponse::OkResponse(ok))) => allowed_by(ok, found).map(Answer::Allowed),
        (true, None) => Some(Answer::Allowed(Allowed { metadata: found, ..Allowed::default() })),
        (false, Some(HttpResponse::DeniedResponse(denied))) => refused_by(denied, found).map(Answer::Refused),
        (false, None) => {
            Some(Answer::Refused(Refused { status: 403, headers: Vec::new(), body: Vec::new(), metadata: found }))
        }
        // An allowance with a refusal's answer, or the other way round, is no answer.
        _ => None,
    }
}

/// The deprecated `append` is what authorizers still send: it comes first.
#[allow(deprecated)]
fn allowed_by(ok: auth_pb::OkHttpResponse, found: Option<Struct>) -> Option<Allowed> {
    let mut made = Allowed { metadata: found, ..Allowed::default() };
    for option in ok.headers {
        let append = option.append.is_some_and(|append| append.value);
        let field = field(option.header?)?;
        if append { made.append.push(field) } else { made.set.push(field) }
    }
    for option in ok.response_headers_to_add {
        use core_pb::header_value_option::HeaderAppendAction as Action;
        let append = match option.append {
            Some(append) => append.value,
            None => Action::try_from(option.append_action).ok()? == Action::AppendIfExistsOrAdd,
        };
        let field = field(option.header?)?;
        if append { made.response_append.push(field) } else { made.response_set.push(field) }
    }
    made.remove = ok.headers_to_remove.into_iter().map(|name| name.to_ascii_lowercase()).collect();
    made.query_set = ok.query_parameters_to_set.into_iter().map(|each| (each.key, each.value)).collect();
    made.query_remove = ok.query_parameters_to_remove;
    Some(made)
}

fn refused_by(denied: auth_pb::DeniedHttpResponse, metadata: Option<Struct>) -> Option<Refused> {
    let status = match denied.status {
        None => 403,
        Some(status) => u16::try_from(status.code).ok().filter(|status| (200..600).contains(status))?,
    };
    let headers: Option<Vec<_>> = denied.headers.into_iter().map(|option| field(option.header?)).collect();
    Some(Refused { status, headers: headers?, body: denied.body.into_bytes(), metadata })
}
