//! Answers of the proxy itself, worded as Envoy words them.

use std::borrow::Cow;

use tulle_core::{FractionalPercent, ResponseFlags};
use tulle_http::{Framing, Headers, Known, RequestHead, ResponseHead, Version};
use tulle_policy::ResetReason;
use tulle_policy::outcome::grpc_of_http;
use tulle_route::DirectResponse;

use super::attempt::Reset;
use crate::worker::dynamic::Unreachable;

/// The gRPC status for what took too long.
const DEADLINE_EXCEEDED: u32 = 4;

/// A response that no upstream gave.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Cow<'static, [u8]>,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: Cow<'static, str>,
    pub flags: ResponseFlags,
    pub location: Option<String>,
    /// For gRPC callers, instead of what the HTTP status stands for.
    pub grpc_status: Option<u32>,
    /// Says that a limit was reached, for callers that retry.
    pub overloaded: bool,
    /// Further fields, names in lower case.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The downstream connection is in no state to go on.
    pub close: bool,
}

impl Reply {
    pub fn new(status: u16, body: &'static str, details: &'static str, flags: ResponseFlags) -> Reply {
        Reply {
            status,
            body: Cow::Borrowed(body.as_bytes()),
            details: Cow::Borrowed(details),
            flags,
            location: None,
            grpc_status: None,
            overloaded: false,
            headers: Vec::new(),
            close: false,
        }
    }

    pub fn closing(mut self) -> Reply {
        self.close = true;
        self
    }

    pub fn no_route() -> Reply {
        Reply::new(404, "", "route_not_found", ResponseFlags::NO_ROUTE_FOUND)
    }

    pub fn no_routes() -> Reply {
        Reply::new(404, "", "route_configuration_not_found", ResponseFlags::NO_ROUTE_FOUND)
    }

    /// A filter whose settings have not arrived; nothing may pass it.
    pub fn no_filter_config() -> Reply {
        Reply::new(500, "", "no_filter_config_found", ResponseFlags::NO_FILTER_CONFIG_FOUND)
    }

    pub fn no_cluster(status: u16) -> Reply {
        Reply::new(status, "", "cluster_not_found", ResponseFlags::NO_CLUSTER_FOUND)
    }

    pub fn no_healthy_upstream() -> Reply {
        Reply::new(503, "no healthy upstream", "no_healthy_upstream", ResponseFlags::NO_HEALTHY_UPSTREAM)
    }

    /// One of the share that the control plane has dropped (`drop_overloads`).
    pub fn dropped(share: FractionalPercent, envoy_headers: bool) -> Reply {
        let all = share == FractionalPercent::ALWAYS;
        let (mut reply, header) = if all {
            let flags = ResponseFlags::UNCONDITIONAL_DROP_OVERLOAD;
            let reply = Reply::new(503, "unconditional drop overload", "unconditional_drop_overload", flags);
            (reply, &b"x-envoy-unconditional-drop-overload"[..])
        } else {
            let reply = Reply::new(503, "drop overload", "drop_overload", ResponseFlags::DROP_OVERLOAD);
            (reply, &b"x-envoy-drop-overload"[..])
        };
        if envoy_headers {
            reply.headers.push((header.to_vec(), b"true".to_vec()));
        }
        reply
    }

    /// The host that a request names is not called, worded as Envoy's dynamic forward proxy and RBAC do.
    pub fn unreachable(why: Unreachable) -> Reply {
        match why {
            Unreachable::Unknown => Reply::new(
                503,
                "DNS resolution failure",
                "dns_resolution_failure",
                ResponseFlags::DNS_RESOLUTION_FAILED,
            ),
            Unreachable::Forbidden => Reply::new(
                403,
                "RBAC: access denied",
                "rbac_access_denied_matched_policy[forbidden-address]",
                ResponseFlags::NONE,
            ),
            Unreachable::TooMany => {
                Reply::new(503, "DNS cache overflow", "dns_cache_overflow", ResponseFlags::UPSTREAM_OVERFLOW)
            }
        }
    }

    pub fn request_timeout() -> Reply {
        Reply::new(504, "upstream request timeout", "response_timeout", ResponseFlags::UPSTREAM_REQUEST_TIMEOUT)
    }

    /// One try took longer than it may; `details` say which of its limits it was, where it is not the whole try's.
    pub fn per_try_timeout(details: Option<&'static str>) -> Reply {
        let details = Cow::Borrowed(details.unwrap_or("upstream_per_try_timeout"));
        Reply { details, ..Reply::request_timeout() }
    }

    /// The stream to the endpoint took longer than any to its cluster may.
    pub fn try_ended() -> Reply {
        let flags = ResponseFlags::UPSTREAM_MAX_STREAM_DURATION_REACHED;
        Reply::new(504, "upstream max stream duration reached", super::attempt::TRY_ENDED, flags)
    }

    /// The stream took longer than it may; `received`: the request is there in full.
    pub fn stream_ended(received: bool) -> Reply {
        let status = if received { 504 } else { 408 };
        let reply = Reply::new(status, "downstream duration timeout", "max_duration_timeout", ResponseFlags::NONE);
        Reply { grpc_status: Some(DEADLINE_EXCEEDED), ..reply }
    }

    /// The client was too slow with its body.
    pub fn stream_idle() -> Reply {
        let flags = ResponseFlags::STREAM_IDLE_TIMEOUT;
        Reply::new(408, "stream timeout", "stream_idle_timeout", flags).closing()
    }

    /// The process has too much to do.
    pub fn overloaded() -> Reply {
        Reply::new(503, "envoy overloaded", "overload", ResponseFlags::NONE)
    }

    /// The process has too much to do to read the connection on.
    pub fn aborted() -> Reply {
        let flags = ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR;
        Reply::new(500, "Internal Server Error", "overload_error", flags).closing()
    }

    /// The client took too long to send its whole request.
    pub fn request_overdue() -> Reply {
        Reply::new(408, "request timeout", "request_overall_timeout", ResponseFlags::NONE).closing()
    }

    pub fn upgrade_refused() -> Reply {
        Reply::new(403, "", "upgrade_failed", ResponseFlags::NONE)
    }

    /// Malformed bytes from the client, behind the head.
    pub fn malformed(refused: tulle_http::h1::Refused) -> Reply {
        use tulle_http::h1::Refused;
        if matches!(refused, Refused::Host | Refused::Target) {
            return Reply::bad_request(refused.details()).closing();
        }
        let flags = ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR;
        let body = match refused.status() {
            431 => "Request Header Fields Too Large",
            414 => "URI Too Long",
            426 => "Upgrade Required",
            _ => "Bad Request",
        };
        Reply::new(refused.status(), body, refused.details(), flags).closing()
    }

    pub fn bad_request(details: &'static str) -> Reply {
        Reply::new(400, "", details, ResponseFlags::NONE)
    }

    /// To a request that does not say who its client is.
    pub fn rejected(status: u16) -> Reply {
        Reply::new(status, "", "rejecting_because_detection_failed", ResponseFlags::NONE)
    }

    pub fn direct(answer: &DirectResponse) -> Reply {
        Reply {
            body: Cow::Owned(answer.body.to_vec()),
            ..Reply::new(answer.status, "", "direct_response", ResponseFlags::NONE)
        }
    }

    pub fn redirect(status: u16, location: String) -> Reply {
        Reply { location: Some(location), ..Reply::new(status, "", "direct_response", ResponseFlags::NONE) }
    }

    /// An attempt that ended before a response's head.
    pub fn reset(reset: &Reset, retried: bool) -> Reply {
        let (status, flags, words) = wording(reset.reason);
        let cause = reset.words.unwrap_or(words);
        let transport_failure = &reset.transport_failure;
        let again = if retried { "retried and the latest " } else { "" };
        let body = format!("upstream connect error or disconnect/reset before headers. {again}reset reason: {cause}");
        let mut details = format!("upstream_reset_before_response_started{{{}", cause.replace(' ', "_"));
        if !transport_failure.is_empty() {
            details.push('|');
            details.push_str(&transport_failure.replace(' ', "_"));
        }
        details.push('}');
        Reply {
            body: Cow::Owned(body.into_bytes()),
            details: Cow::Owned(details),
            overloaded: reset.reason == ResetReason::Overflow,
            ..Reply::new(status, "", "", flags)
        }
    }

    /// Writes the head into `out`; gRPC clients get a trailers-only response (gRPC over HTTP/2, "Responses").
    pub fn write_head(&self, request: &RequestHead, out: &mut ResponseHead) {
        out.clear();
        for (name, value) in &self.headers {
            out.headers.push(name, value);
        }
        if request.is_grpc() {
            out.status = 200;
            out.headers.push(b"content-type", b"application/grpc");
            match self.grpc_status {
                Some(status) => out.headers.push(b"grpc-status", status.to_string().as_bytes()),
                None => out.headers.push(b"grpc-status", grpc_of_http(self.status).to_string().as_bytes()),
            }
            self.word_grpc(&mut out.headers);
            self.tell(&mut out.headers);
            out.framing = Framing::None;
            if request.version != Version::Http2 {
                // Without trailers the end has to be told.
                out.framing = Framing::Length(0);
                declare_length(&mut out.headers, 0);
            }
            return;
        }
        out.status = self.status;
        let typed = self.headers.iter().any(|(name, _)| name == b"content-type");
        self.frame(out);
        if !self.body.is_empty() && !typed {
            out.headers.push(b"content-type", b"text/plain");
        }
        self.tell(&mut out.headers);
        if request.is_head() {
            out.framing = Framing::None;
        }
    }

    /// What gRPC callers are told as well.
    fn tell(&self, headers: &mut Headers) {
        if self.overloaded {
            headers.push(b"x-envoy-overloaded", b"true");
        }
        if let Some(location) = &self.location {
            headers.push(b"location", location.as_bytes());
        }
    }

    /// What no route's changes take away: a body has a type, and gRPC's is its own.
    pub fn insist(&self, request: &RequestHead, out: &mut ResponseHead) {
        if request.is_grpc() {
            out.headers.set(b"content-type", b"application/grpc");
        } else if !self.body.is_empty() && !out.headers.has(Known::ContentType) {
            out.headers.push(b"content-type", b"text/plain");
        }
    }
}

impl Reply {
    /// Says how long the body is.
    fn frame(&self, out: &mut ResponseHead) {
        // RFC 9110 §8.6: a 204 says nothing of a length.
        out.framing = if self.status == 204 { Framing::None } else { Framing::Length(self.body.len() as u64) };
        if self.status != 204 {
            declare_length(&mut out.headers, self.body.len());
        }
    }

    /// gRPC clients are told the body's text in a field.
    fn word_grpc(&self, headers: &mut Headers) {
        if !self.body.is_empty() {
            let mut message = Vec::with_capacity(self.body.len());
            percent_encode(&self.body, &mut message);
            headers.set(b"grpc-message", &message);
        }
    }

    /// Another body has taken the place of the one that the head was written for; `kind` is its type, where that is not
    /// the head's own matter.
    pub fn declare_body(&self, kind: Option<&str>, request: &RequestHead, out: &mut ResponseHead) {
        if request.is_grpc() {
            out.headers.remove(b"grpc-message");
            return self.word_grpc(&mut out.headers);
        }
        self.frame(out);
        if request.is_head() {
            out.framing = Framing::None;
        }
        if self.body.is_empty() {
            out.headers.remove(b"content-type");
        } else if let Some(kind) = kind {
            out.headers.set(b"content-type", kind.as_bytes());
        }
    }
}

fn declare_length(headers: &mut Headers, length: usize) {
    headers.set(b"content-length", length.to_string().as_bytes());
}

/// Status, flag and Envoy's words for a reset reason (`Http::Utility::resetReasonToString`).
fn wording(reason: ResetReason) -> (u16, ResponseFlags, &'static str) {
    match reason {
        ResetReason::ConnectFailure => (503, ResponseFlags::UPSTREAM_CONNECTION_FAILURE, "remote connection failure"),
        ResetReason::ConnectionTermination => {
            (503, ResponseFlags::UPSTREAM_CONNECTION_TERMINATION, "connection termination")
        }
        ResetReason::RemoteReset => (503, ResponseFlags::UPSTREAM_REMOTE_RESET, "remote reset"),
        ResetReason::RemoteRefused => (503, ResponseFlags::UPSTREAM_REMOTE_RESET, "remote refused stream reset"),
        ResetReason::LocalReset => (503, ResponseFlags::LOCAL_RESET, "local reset"),
        ResetReason::ProtocolError => (502, ResponseFlags::UPSTREAM_PROTOCOL_ERROR, "protocol error"),
        ResetReason::Overflow => (503, ResponseFlags::UPSTREAM_OVERFLOW, "overflow"),
        ResetReason::PerTryTimeout | ResetReason::GlobalTimeout => {
            (504, ResponseFlags::UPSTREAM_REQUEST_TIMEOUT, "local reset")
        }
        ResetReason::NoHealthyHost => (503, ResponseFlags::NO_HEALTHY_UPSTREAM, "no healthy upstream"),
    }
}

fn percent_encode(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            0x20..=0x7e if *byte != b'%' => out.push(*byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}
