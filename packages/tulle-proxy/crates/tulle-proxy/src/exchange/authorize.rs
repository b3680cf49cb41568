//! External authorization of a request: an authorizer is asked over HTTP or gRPC, and what it answers is done.
//!
//! Where it cannot be asked, does not answer in time, or answers nonsense, the request is refused, unless configuration
//! lets such requests pass.

use std::borrow::Cow;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tulle_config::Authorizer;
use tulle_config::authorizer::{AuthorizerService, HttpAuthorizer, OnFailure};
use tulle_core::headers::RequestView;
use tulle_core::{Headers as _, Metadata, ResponseFlags, Str};
use tulle_http::{Framing, Known, Piece, RequestHead, Side, Tunnel};
use tulle_policy::authorizer::{AuthorizerOverride, BodyShown};
use tulle_policy::{FilterOverride, StringMatcher};
use tulle_token::locate::without_param;
use tulle_xds::authz::{self, Allowed, Answer, Question, Refused};

use super::attempt::{self, Quiet};
use super::filters::{self, Edits, Step};
use super::mirror::{self, Answered, Missed};
use super::reply::Reply;
use super::upload::{Keep, Upload};
use super::{Exchange, Failed, grpc};
use crate::worker::alarm::earlier;

/// Where the filter leaves what an authorizer wants later filters and logs to know.
const METADATA: &str = "envoy.filters.http.ext_authz";
/// Most of an answer that is read, in bytes.
const LARGEST_ANSWER: usize = 1 << 20;

/// A question to be asked.
pub struct Asking {
    authorizer: Arc<Authorizer>,
    said: Option<Arc<AuthorizerOverride>>,
}

/// Whether somebody is to be asked about the request.
pub fn begin(x: &mut Exchange<'_>, authorizer: &Arc<Authorizer>, said: Option<&FilterOverride>) -> Option<Step> {
    let by_metadata =
        authorizer.enabled_by.as_ref().is_none_or(|matcher| matcher.matches(x.record.metadata.as_deref()));
    if !by_metadata || !authorizer.enabled.hits(x.worker.random()) {
        x.worker.metrics.sheet.inc(x.client.http.ext_authz_disabled);
        return authorizer.status_when_disabled.map(|status| Step::Answer(refusal(status, "ext_authz_error")));
    }
    let said = match said {
        Some(FilterOverride::Authorizer(said)) => Some(said.clone()),
        _ => None,
    };
    Some(Step::Authorize(Asking { authorizer: authorizer.clone(), said }))
}

/// Asks, and does what is answered. `Some` is what the client gets instead of the upstream's response.
pub async fn ask(x: &mut Exchange<'_>, down: &mut Side, asking: Asking) -> Result<Verdict, Failed> {
    let authorizer = &asking.authorizer;
    let shown = asking.said.as_ref().and_then(|said| said.body).unwrap_or(authorizer.body);
    if let Some(shown) = shown
        && !collect(x, down, shown).await?
    {
        return Ok(Verdict::Refused(too_large()));
    }
    let call = async {
        let answered = match &authorizer.service {
            AuthorizerService::Http(http) => {
                let (head, body) = http_request(x, authorizer, http, (shown, body_of(x, shown)));
                let server = (&*http.cluster, Some(http.timeout));
                let answered = mirror::ask_cluster(x.worker, server, (&head, body), LARGEST_ANSWER).await;
                answered.map(|answered| http_answer(http, answered))
            }
            AuthorizerService::Grpc(service) => {
                let message = authz::ask(question(x, &asking, (shown, &body_of(x, shown))));
                let answered = grpc::call(x.worker, service, authz::METHOD, message).await;
                answered.map(|answered| authz::answered(&answered))
            }
        };
        answered.unwrap_or_else(|missed| {
            if missed == Missed::Late {
                x.worker.metrics.sheet.inc(x.client.http.ext_authz_timeout);
            }
            None
        })
    };
    let answered = tokio::select! {
        answered = call => answered,
        () = filters::left(down) => return Err(super::attempt::client_left(x, down)),
    };
    Ok(conclude(x, authorizer, answered))
}

/// What becomes of the request.
pub enum Verdict {
    Passes,
    /// The route is to be found anew.
    Changed,
    Refused(Reply),
}

fn conclude(x: &mut Exchange<'_>, authorizer: &Authorizer, answered: Option<Answer>) -> Verdict {
    let (sheet, stats) = (&x.worker.metrics.sheet, &x.client.http);
    match answered {
        Some(Answer::Allowed(allowed)) => {
            sheet.inc(stats.ext_authz_ok);
            let changed = authorizer.clear_route_cache && allowed.changes_request();
            take_over(x, allowed);
            if changed { Verdict::Changed } else { Verdict::Passes }
        }
        Some(Answer::Refused(refused)) => {
            sheet.inc(stats.ext_authz_denied);
            if let Some(found) = refused.metadata {
                x.record.learn(&Arc::new(Metadata { filters: [(METADATA.into(), found)].into() }));
            }
            let mut body = refused.body;
            body.truncate(authorizer.max_denied_body.unwrap_or(usize::MAX));
            let reply = refusal(refused.status, "ext_authz_denied");
            // The answer's own framing is this proxy's to say.
            let headers = refused.headers.into_iter().filter(|(name, _)| !is_framing(name));
            let headers = headers.map(|(name, value)| (name.into_bytes(), value)).collect();
            Verdict::Refused(Reply { body: Cow::Owned(body), headers, ..reply })
        }
        None => {
            sheet.inc(stats.ext_authz_error);
            match authorizer.failure {
                OnFailure::Deny(status) => return Verdict::Refused(refusal(status, "ext_authz_error")),
                OnFailure::Allow => {}
                OnFailure::AllowAndTell => {
                    x.heads.request.headers.set(b"x-envoy-auth-failure-mode-allowed", b"true");
                }
            }
            sheet.inc(stats.ext_authz_failure_mode_allowed);
            Verdict::Passes
        }
    }
}

fn refusal(status: u16, details: &'static str) -> Reply {
    Reply::new(status, "", details, ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE)
}

fn too_large() -> Reply {
    Reply::new(413, "Payload Too Large", "request_payload_too_large", ResponseFlags::NONE).closing()
}

/// Reads the whole body, and says so in the head; the answer to one that is longer than it may be.
pub async fn buffer(x: &mut Exchange<'_>, down: &mut Side, most: u32) -> Result<Option<Reply>, Failed> {
    let most = most as usize;
    if !collect(x, down, BodyShown { max_bytes: most, partial: false, as_bytes: false }).await? {
        return Ok(Some(too_large()));
    }
    if let Some(length) = x.upload.as_ref().and_then(Upload::whole_length)
        && x.heads.request.framing == Framing::Delimited
        && !x.heads.request.headers.has(Known::ContentLength)
    {
        x.heads.request.framing = Framing::Length(length);
        x.heads.request.headers.push(b"content-length", length.to_string().as_bytes());
    }
    Ok(None)
}

/// Reads the body, as far as it is shown; false when it is longer than that and must not be.
async fn collect(x: &mut Exchange<'_>, down: &mut Side, shown: BodyShown) -> Result<bool, Failed> {
    if x.heads.request.tunnel != Tunnel::No || down.read_ended() {
        return Ok(true);
    }
    let mut upload = x.upload.take().unwrap_or_else(|| Upload::new(Keep::UpTo(shown.max_bytes)));
    if x.heads.request.expect_continue
        && !upload.read_all()
        && let Side::H1(conn) = down
    {
        conn.queue_raw(b"HTTP/1.1 100 Continue\r\n\r\n");
        x.heads.request.expect_continue = false;
    }
    let overdue = attempt::overdue(x);
    let mut idle = Quiet::new(x.hcm.timeouts.stream_idle, Instant::now());
    let read = std::future::poll_fn(|cx| {
        if let Poll::Ready(Err(broken)) = down.poll_flush(cx) {
            return Poll::Ready(Some(Err(broken)));
        }
        if let Poll::Ready(read) = upload.poll_collect(cx, down, shown.max_bytes) {
            return Poll::Ready(Some(read));
        }
        idle.note(upload.bytes);
        x.alarm.poll(cx, earlier(overdue, idle.due)).map(|()| None)
    })
    .await;
    x.record.request_bytes = upload.bytes;
    let fits = upload.read_all() && upload.bytes as usize <= shown.max_bytes;
    x.upload = Some(upload);
    match read {
        Some(Ok(())) => Ok(fits || shown.partial),
        Some(Err(broken)) => Err(attempt::client_broke(x, down, broken)),
        None if idle.is_due() => Err(Reply::stream_idle().into()),
        None => Err(Reply::request_overdue().into()),
    }
}

/// What is shown of the body.
fn body_of(x: &Exchange<'_>, shown: Option<BodyShown>) -> Vec<u8> {
    match (shown, &x.upload) {
        (Some(shown), Some(upload)) => upload.collected(shown.max_bytes),
        _ => Vec::new(),
    }
}

fn http_request(
    x: &Exchange<'_>,
    authorizer: &Authorizer,
    http: &HttpAuthorizer,
    (shown, body): (Option<BodyShown>, Vec<u8>),
) -> (RequestHead, Vec<Piece>) {
    let original = &x.heads.request;
    let mut head = RequestHead::default();
    head.set_method(original.method());
    head.set_path(&[http.path_prefix.as_bytes(), original.path()].concat());
    head.set_authority(original.authority());
    let chosen = |name: &str| authorizer.allowed_headers.as_ref().is_some_and(|allowed| any(allowed, name));
    let allowed = |name: &str| name == "authorization" || chosen(name);
    for (_, name, value) in original.headers.iter() {
        let name = String::from_utf8_lossy(name);
        if allowed(&name) && !any(&authorizer.disallowed_headers, &name) && !is_framing(&name) {
            head.headers.push(name.as_bytes(), value);
        }
    }
    for (name, value) in &http.headers_to_add {
        head.headers.set(name.as_bytes(), value.as_bytes());
    }
    // As Envoy's own requests go: inside the mesh.
    head.headers.set(b"x-envoy-internal", b"true");
    let limit = http.timeout.as_millis().to_string();
    head.headers.set(b"x-envoy-expected-rq-timeout-ms", limit.as_bytes());
    if let (Some(_), Some(upload)) = (shown, &x.upload) {
        let whole = upload.read_all() && upload.bytes as usize <= body.len();
        head.headers.set(b"x-envoy-auth-partial-body", if whole { b"false" } else { b"true" });
    }
    head.headers.set(b"content-length", body.len().to_string().as_bytes());
    head.framing = Framing::Length(body.len() as u64);
    let pieces = if body.is_empty() { vec![Piece::End] } else { vec![Piece::Data { data: body.into(), last: true }] };
    (head, pieces)
}

fn any(matchers: &[StringMatcher], name: &str) -> bool {
    matchers.iter().any(|matcher| matcher.matches(name.as_bytes()))
}

fn is_framing(name: &str) -> bool {
    matches!(name, "content-length" | "transfer-encoding" | "connection" | "expect" | "te" | "upgrade" | "host")
}

fn question<'q>(x: &'q Exchange<'_>, asking: &Asking, (shown, body): (Option<BodyShown>, &'q [u8])) -> Question<'q> {
    let request = &x.heads.request;
    let tls = x.client.tls.as_ref();
    let authorizer = &asking.authorizer;
    let shows = |name: &str| {
        authorizer.allowed_headers.as_ref().is_none_or(|allowed| any(allowed, name))
            && !any(&authorizer.disallowed_headers, name)
    };
    let mut headers = vec![
        (":method".to_owned(), RequestView::method(request).to_owned()),
        (":path".to_owned(), RequestView::path(request).to_owned()),
        (":authority".to_owned(), RequestView::authority(request).to_owned()),
        (":scheme".to_owned(), request.scheme().to_owned()),
    ];
    headers.retain(|(name, _)| shows(name));
    request.visit_headers(&mut |name, value| {
        let name = String::from_utf8_lossy(name);
        if shows(&name) {
            headers.push((name.into_owned(), String::from_utf8_lossy(value).into_owned()));
        }
    });
    let length = request.headers.known(Known::ContentLength).and_then(|length| std::str::from_utf8(length).ok());
    let metadata = x.record.metadata.as_ref().map(|known| Metadata {
        filters: authorizer
            .metadata
            .iter()
            .filter_map(|name| known.filter(name).map(|fields| (name.clone(), fields.clone())))
            .collect(),
    });
    let id = request.headers.known(Known::XRequestId).and_then(|id| std::str::from_utf8(id).ok());
    Question {
        source: x.client.peer,
        source_principal: tls.filter(|tls| tls.peer_verified).and_then(|tls| tls.uri_san.as_deref()).unwrap_or(""),
        destination: x.client.local,
        destination_principal: tls.and_then(|tls| tls.own_uri.as_deref()).unwrap_or(""),
        server_name: tls.and_then(|tls| tls.server_name.as_deref()).filter(|_| authorizer.tls_session),
        time: Duration::from_nanos(x.record.wall.0),
        id: id.unwrap_or(""),
        method: RequestView::method(request),
        path: RequestView::path(request),
        host: RequestView::authority(request),
        scheme: request.scheme(),
        protocol: request.version.as_str(),
        headers,
        body,
        body_as_bytes: shown.is_some_and(|shown| shown.as_bytes),
        size: length.and_then(|length| length.parse().ok()).unwrap_or(-1),
        context: asking.said.iter().flat_map(|said| said.context.iter()).map(pair).collect(),
        metadata,
    }
}

fn pair((key, value): &(Str, Str)) -> (String, String) {
    (key.to_string(), value.to_string())
}

/// What a response says; `None` when it is no answer.
fn http_answer(http: &HttpAuthorizer, answered: Answered) -> Option<Answer> {
    let head = &answered.head;
    let fields = |wanted: &dyn Fn(&str) -> bool| -> Vec<(String, Vec<u8>)> {
        let all =
            head.headers.iter().map(|(_, name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec()));
        all.filter(|(name, _)| wanted(name) && !is_framing(name)).collect()
    };
    if head.status >= 500 {
        return None;
    }
    if head.status == 200 {
        let remove = head.headers.get(b"x-envoy-auth-headers-to-remove").unwrap_or_default();
        let remove = String::from_utf8_lossy(remove).to_ascii_lowercase();
        return Some(Answer::Allowed(Allowed {
            set: fields(&|name| any(&http.to_upstream, name)),
            add: fields(&|name| any(&http.to_upstream_appended, name)),
            remove: remove.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
            response_append: fields(&|name| any(&http.to_client_on_success, name)),
            ..Allowed::default()
        }));
    }
    let always = |name: &str| matches!(name, "www-authenticate" | "proxy-authenticate" | "location");
    let headers = match &http.to_client {
        None => fields(&|_| true),
        Some(wanted) => fields(&|name| always(name) || any(wanted, name)),
    };
    Some(Answer::Refused(Refused { status: head.status, headers, body: answered.body, metadata: None }))
}

fn take_over(x: &mut Exchange<'_>, allowed: Allowed) {
    let request = &mut x.heads.request;
    let own = |name: &str| !is_framing(name);
    for name in allowed.remove.iter().filter(|name| own(name)) {
        request.headers.remove(name.as_bytes());
    }
    for (index, (name, value)) in allowed.set.iter().enumerate().filter(|(_, (name, _))| own(name)) {
        // Several values of one name together replace what was there.
        if allowed.set[..index].iter().any(|(earlier, _)| earlier == name) {
            request.headers.push(name.as_bytes(), value);
        } else {
            request.headers.set(name.as_bytes(), value);
        }
    }
    for (name, value) in allowed.append.iter().filter(|(name, _)| own(name)) {
        request.headers.append_csv(name.as_bytes(), value);
    }
    for (name, value) in allowed.add.iter().filter(|(name, _)| own(name)) {
        request.headers.push(name.as_bytes(), value);
    }
    if !allowed.query_remove.is_empty() || !allowed.query_set.is_empty() {
        let path = with_query(RequestView::path(request), &allowed);
        request.set_path(path.as_bytes());
    }
    if let Some(found) = allowed.metadata {
        x.record.learn(&Arc::new(Metadata { filters: [(METADATA.into(), found)].into() }));
    }
    if !allowed.response_set.is_empty() || !allowed.response_append.is_empty() {
        let edits: &mut Edits = x.record.edits.get_or_insert_default();
        edits.set.extend(allowed.response_set);
        edits.append.extend(allowed.response_append);
    }
}

/// A path with the answer's changes to its query.
fn with_query(path: &str, allowed: &Allowed) -> String {
    let removed = allowed.query_remove.iter().chain(allowed.query_set.iter().map(|(name, _)| name));
    let mut path = removed.fold(path.to_owned(), |path, name| without_param(&path, name));
    for (name, value) in &allowed.query_set {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(&encoded(name));
        path.push('=');
        path.push_str(&encoded(value));
    }
    path
}

/// Percent-encoded but for RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            byte if byte.is_ascii_alphanumeric() => out.push(byte as char),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_changed_as_answered() {
        let pairs = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let allowed = Allowed {
            query_set: pairs(&[("a", "1 &2"), ("b", "")]),
            query_remove: vec!["c".to_owned()],
            ..Allowed::default()
        };
        assert_eq!(with_query("/x?a=0&c=1&d", &allowed), "/x?d&a=1%20%262&b=");
        assert_eq!(with_query("/x", &allowed), "/x?a=1%20%262&b=");
    }
}
