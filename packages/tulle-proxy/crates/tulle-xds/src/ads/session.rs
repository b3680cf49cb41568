//! One delta stream's protocol state: what is subscribed to, what is held in which version, what is to be answered.

use std::collections::{BTreeSet, HashMap, VecDeque};

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::service::discovery::v3 as ads_pb;
use envoy_types::pb::google::protobuf;
use envoy_types::pb::google::rpc::Status;
use tulle_config::Node;
use tulle_core::Str;
use tulle_core::metadata::{Struct, Value};

use crate::decode::Kind;

/// gRPC's INVALID_ARGUMENT: the code of a NACK.
const INVALID_ARGUMENT: i32 = 3;
/// A NACK's text is cut here, so that a thousand bad resources do not make a message that is itself refused.
const MAX_ERROR: usize = 16 * 1024;

struct Answer {
    type_url: String,
    nonce: String,
    error: Option<String>,
}

#[derive(Default)]
struct TypeState {
    /// All resources of the type, by an initial request that names none.
    wildcard: bool,
    /// Whether the stream has had its first request for this type.
    started: bool,
    wanted: BTreeSet<Str>,
    /// What the control plane has been told on this stream.
    subscribed: BTreeSet<Str>,
    /// Versions of what was accepted, for the next stream.
    versions: HashMap<String, String>,
    answers: VecDeque<Answer>,
}

/// The protocol state of one client over all its streams.
pub struct Session {
    node: core_pb::Node,
    node_sent: bool,
    types: [TypeState; Kind::ALL.len()],
    unknown: VecDeque<Answer>,
}

impl Session {
    pub fn new(node: &Node, wildcards: Vec<Kind>) -> Self {
        let mut types: [TypeState; Kind::ALL.len()] = Default::default();
        for kind in wildcards {
            types[kind as usize].wildcard = true;
        }
        Session { node: node_message(node), node_sent: false, types, unknown: VecDeque::new() }
    }

    /// A new stream: nothing has been said on it. Versions stay.
    pub fn reset(&mut self) {
        self.node_sent = false;
        self.unknown.clear();
        for state in &mut self.types {
            state.started = false;
            state.subscribed.clear();
            state.answers.clear();
        }
    }

    /// Sets the names wanted of a type, beside all of it where it is subscribed to as a whole.
    pub fn want(&mut self, kind: Kind, names: BTreeSet<Str>) {
        let state = &mut self.types[kind as usize];
        if !state.wildcard {
            state.versions.retain(|name, _| names.contains(name.as_str()));
        }
        state.wanted = names;
    }

    /// Whether a type is subscribed to as a whole.
    pub fn wants_all(&self, kind: Kind) -> bool {
        self.types[kind as usize].wildcard
    }

    /// Subscribes to a type as a whole.
    pub fn want_all(&mut self, kind: Kind) {
        self.types[kind as usize].wildcard = true;
    }

    /// A resource was accepted in this version.
    pub fn accept(&mut self, kind: Kind, name: &str, version: String) {
        self.types[kind as usize].versions.insert(name.to_owned(), version);
    }

    /// Everything held is claimed in no version on the next stream.
    pub fn doubt(&mut self) {
        for version in self.types.iter_mut().flat_map(|state| state.versions.values_mut()) {
            version.clear();
        }
    }

    /// The control plane no longer has this resource.
    pub fn forget(&mut self, kind: Kind, name: &str) {
        self.types[kind as usize].versions.remove(name);
    }

    /// Answers a response: ACK with an empty `error`, else NACK.
    pub fn acknowledge(&mut self, kind: Kind, nonce: String, error: String) {
        let type_url = kind.type_url().to_owned();
        let error = (!error.is_empty()).then_some(error);
        self.types[kind as usize].answers.push_back(Answer { type_url, nonce, error });
    }

    /// Refuses a response of a type that was never asked for.
    pub fn refuse_type(&mut self, type_url: String, nonce: String, error: String) {
        self.unknown.push_back(Answer { type_url, nonce, error: Some(error) });
    }

    /// The next request, in the order in which resources depend on one another. What is asked for goes before what is
    /// acknowledged: a control plane that hears of the acknowledgment first would go on to routes while the endpoints of
    /// their clusters have not been asked for.
    pub fn next_request(&mut self) -> Option<ads_pb::DeltaDiscoveryRequest> {
        let asking = Kind::ALL.into_iter().find(|kind| self.types[*kind as usize].asks());
        let mut others = Kind::ALL.into_iter().zip(&mut self.types);
        let request = match asking {
            Some(kind) => self.types[kind as usize].next_request(kind),
            None => others.find_map(|(kind, state)| state.next_request(kind)),
        };
        let mut request = request.or_else(|| self.unknown.pop_front().map(answer))?;
        if !self.node_sent {
            request.node = Some(self.node.clone());
            self.node_sent = true;
        }
        Some(request)
    }
}

impl TypeState {
    /// Whether there is something to ask for that the control plane has not been asked for on this stream.
    fn asks(&self) -> bool {
        match self.started {
            true => !self.wanted.is_subset(&self.subscribed),
            false => self.wildcard || !self.wanted.is_empty(),
        }
    }

    fn next_request(&mut self, kind: Kind) -> Option<ads_pb::DeltaDiscoveryRequest> {
        if !self.started {
            return self.first_request(kind);
        }
        let next = self.answers.pop_front();
        let subscribe: Vec<String> = self.wanted.difference(&self.subscribed).map(|name| name.to_string()).collect();
        let unsubscribe: Vec<String> = self.subscribed.difference(&self.wanted).map(|name| name.to_string()).collect();
        if next.is_none() && subscribe.is_empty() && unsubscribe.is_empty() {
            return None;
        }
        self.subscribed = self.wanted.clone();
        let mut request = match next {
            Some(next) => answer(next),
            None => ads_pb::DeltaDiscoveryRequest { type_url: kind.type_url().to_owned(), ..Default::default() },
        };
        request.resource_names_subscribe = subscribe;
        request.resource_names_unsubscribe = unsubscribe;
        Some(request)
    }

    /// Beside names, all of a type is asked for by `*` (xDS, "wildcard subscriptions").
    fn first_names(&self) -> Vec<String> {
        let all = (self.wildcard && !self.wanted.is_empty()).then(|| "*".to_owned());
        all.into_iter().chain(self.wanted.iter().map(|name| name.to_string())).collect()
    }

    fn first_request(&mut self, kind: Kind) -> Option<ads_pb::DeltaDiscoveryRequest> {
        if !self.wildcard && self.wanted.is_empty() {
            return None;
        }
        self.started = true;
        self.subscribed = self.wanted.clone();
        Some(ads_pb::DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: self.first_names(),
            initial_resource_versions: self.versions.clone(),
            ..Default::default()
        })
    }
}

fn answer(answer: Answer) -> ads_pb::DeltaDiscoveryRequest {
    ads_pb::DeltaDiscoveryRequest {
        type_url: answer.type_url,
        response_nonce: answer.nonce,
        error_detail: answer.error.map(|mut message| {
            if message.len() > MAX_ERROR {
                let cut = (0..=MAX_ERROR).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
                message.truncate(cut);
                message.push('…');
            }
            Status { code: INVALID_ARGUMENT, message, details: Vec::new() }
        }),
        ..Default::default()
    }
}

fn node_message(node: &Node) -> core_pb::Node {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    core_pb::Node {
        id: node.id.to_string(),
        cluster: node.cluster.to_string(),
        metadata: Some(struct_message(&node.metadata)),
        locality: Some(core_pb::Locality {
            region: node.locality.region.to_string(),
            zone: node.locality.zone.to_string(),
            sub_zone: node.locality.sub_zone.to_string(),
        }),
        user_agent_name: "tulle-proxy".to_owned(),
        user_agent_version_type: Some(core_pb::node::UserAgentVersionType::UserAgentVersion(version)),
        ..Default::default()
    }
}

fn struct_message(fields: &Struct) -> protobuf::Struct {
    protobuf::Struct { fields: fields.iter().map(|(key, value)| (key.to_string(), value_message(value))).collect() }
}

fn value_message(value: &Value) -> protobuf::Value {
    use protobuf::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        Value::Number(number) => Kind::NumberValue(*number),
        Value::String(text) => Kind::StringValue(text.to_string()),
        Value::List(items) => {
            Kind::ListValue(protobuf::ListValue { values: items.iter().map(value_message).collect() })
        }
        Value::Struct(fields) => Kind::StructValue(struct_message(fields)),
    };
    protobuf::Value { kind: Some(kind) }
}
