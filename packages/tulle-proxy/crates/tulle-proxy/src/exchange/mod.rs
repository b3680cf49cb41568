//! One request and its response: prepared, routed, forwarded or answered, delivered, recorded. One task owns both ends.

pub mod attempt;
pub mod authorize;
mod bandwidth;
pub mod deliver;
pub mod filters;
pub mod finish;
pub mod forward;
pub mod grpc;
pub mod guarded;
pub mod hedge;
pub mod local_reply;
pub mod mirror;
mod mutations;
pub mod on_demand;
pub mod outgoing;
pub mod prepare;
pub mod record;
pub mod redirect;
pub mod remote;
pub mod remote_limit;
pub mod reply;
pub mod session;
pub mod tokens;
pub mod tries;
pub mod tunnel;
pub mod upload;

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;
use tulle_config::Hcm;
use tulle_config::hcm::ServerHeader;
use tulle_core::ResponseFlags;
use tulle_http::h1::encode::Fate;
use tulle_http::{Broken, Framing, Known, RequestHead, ResponseHead, Side, Tunnel, Version};
use tulle_policy::overload::ShedPoint;
use tulle_route::{RouteAction, RouteConfig, Selected, select, wants_tls};
use tulle_telemetry::TimePoint;

use crate::serve::Client;
use crate::worker::Worker;
use crate::worker::alarm::Alarm;
use filters::Step;
use record::{Record, View};
use reply::Reply;

/// The heads of an exchange and room to work in; one set is used for every exchange of a connection in turn.
#[derive(Default)]
pub struct Heads {
    pub request: RequestHead,
    pub response: ResponseHead,
    /// The head as it was, for formats that read it while it is being changed.
    pub before: RequestHead,
    pub scratch: Vec<u8>,
}

/// One exchange being served.
pub struct Exchange<'a> {
    pub worker: &'a Rc<Worker>,
    pub hcm: &'a Arc<Hcm>,
    pub client: &'a Client,
    pub heads: &'a mut Heads,
    pub alarm: &'a mut Alarm,
    pub record: Record,
    /// What a filter has read of the body.
    pub upload: Option<upload::Upload>,
    /// The connection must end after this exchange, whatever the messages say.
    pub last: LastOnConnection,
}

/// Whether the connection manager wants no further request on this connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastOnConnection {
    No,
    Yes,
}

/// What becomes of the downstream connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Keep,
    Close,
}

/// Why an exchange did not run its course.
#[derive(Debug)]
pub enum Failed {
    /// The client is owed this answer.
    Reply(Box<Reply>),
    /// The client has gone, or its response broke off: nothing can be answered any more.
    Broken,
    /// The upstream's redirect is followed: the request, whose head has been changed, begins anew.
    Redirected,
}

impl From<Reply> for Failed {
    fn from(reply: Reply) -> Failed {
        Failed::Reply(Box::new(reply))
    }
}

/// Serves the request whose head is in `x.heads.request`.
pub async fn serve(mut x: Exchange<'_>, down: &mut Side) -> Ending {
    let result = match begin(&mut x) {
        Ok(()) => loop {
            match steps(&mut x, down).await {
                Err(Failed::Redirected) => redirect::begin_again(&mut x),
                ended => break ended,
            }
        },
        Err(reply) => Err(reply.into()),
    };
    let ending = match result {
        Ok(ending) => ending,
        Err(Failed::Reply(reply)) => answer(&mut x, down, *reply).await,
        // On h2 dropping the stream resets it, behind what is queued.
        Err(Failed::Broken | Failed::Redirected) => Ending::Close,
    };
    finish::finish(&mut x);
    ending
}

/// Answers a request whose head could not be accepted.
pub async fn refuse(mut x: Exchange<'_>, down: &mut Side, reply: Reply) {
    answer(&mut x, down, reply).await;
    finish::finish(&mut x);
}

/// Records a request that cannot be answered, because its head is malformed.
pub fn log_malformed(mut x: Exchange<'_>, details: &'static str) {
    x.record.flags.insert(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
    x.record.details = details.into();
    finish::finish(&mut x);
}

/// What is done once for a request, however many redirects it takes.
fn begin(x: &mut Exchange<'_>) -> Result<(), Reply> {
    x.record.grpc = x.heads.request.is_grpc();
    x.record.request_head_bytes = x.heads.request.headers.byte_size() as u64;
    if let Some(overload) = &x.worker.overload {
        let random = || x.worker.random();
        if x.heads.request.version != Version::Http2 && overload.sheds(ShedPoint::Http1, random) {
            x.worker.metrics.sheet.inc(x.client.http.downstream_rq_overload_close);
            return Err(Reply::aborted());
        }
        if overload.refuses_request(random) || overload.sheds(ShedPoint::Head, random) {
            x.worker.metrics.sheet.inc(x.client.http.downstream_rq_overload_close);
            return Err(Reply::overloaded());
        }
    }
    if !x.hcm.early.is_empty() {
        change_early(x);
    }
    x.record.remote = prepare::prepare(x.hcm, x.client, &mut x.heads.request, &mut x.worker.rng.borrow_mut())?;
    trace(x);
    Ok(())
}

/// The connection manager's own changes, each of which sees what those before it did.
fn change_early(x: &mut Exchange<'_>) {
    let heads = &mut *x.heads;
    for mutation in &x.hcm.early {
        heads.before.copy_from(&heads.request);
        let view = View::new(x.client, &heads.before, None, &x.record);
        mutation.apply(&view, &mut heads.request.headers, &mut heads.scratch);
    }
}

async fn steps(x: &mut Exchange<'_>, down: &mut Side) -> Result<Ending, Failed> {
    let routes = x.worker.routes(&x.hcm.routes, &x.heads.request).ok_or_else(Reply::no_routes)?;
    if !routes.internal_only_headers.is_empty() && !x.heads.request.headers.contains(b"x-envoy-internal") {
        for name in &routes.internal_only_headers {
            x.heads.request.headers.remove(name.as_bytes());
        }
    }
    let mut selected = route(x, &routes);
    let mut progress = filters::Progress::default();
    loop {
        match filters::advance(x, selected.as_ref(), &mut progress) {
            Step::Through => break,
            Step::Hold(length) => Box::pin(filters::hold(x, down, length)).await?,
            Step::Discover(wanted) => Box::pin(on_demand::wait(x, down, wanted)).await?,
            Step::Keys(keys) => Box::pin(filters::fetched(x, down, keys)).await?,
            Step::Authorize(asking) => match Box::pin(authorize::ask(x, down, asking)).await? {
                authorize::Verdict::Passes => {}
                authorize::Verdict::Changed => selected = route(x, &routes),
                authorize::Verdict::Refused(reply) => return answer_filtered(x, down, selected.as_ref(), reply).await,
            },
            Step::Count(asking) => {
                if let Some(reply) = Box::pin(remote_limit::ask(x, down, asking)).await? {
                    return answer_filtered(x, down, selected.as_ref(), reply).await;
                }
            }
            Step::Buffer(most) => {
                if let Some(reply) = Box::pin(authorize::buffer(x, down, most)).await? {
                    return answer_filtered(x, down, selected.as_ref(), reply).await;
                }
            }
            Step::Reroute => selected = route(x, &routes),
            Step::Answer(reply) => return answer_filtered(x, down, selected.as_ref(), reply).await,
        }
    }
    if x.heads.request.tunnel != Tunnel::No {
        // Whatever the answer is: what the client sent behind its request was meant for the tunnel.
        x.last = LastOnConnection::Yes;
    }
    let selected = selected.ok_or_else(|| missed(&routes, &x.heads.request))?;
    match selected.action() {
        RouteAction::Forward(action) => {
            if !upgrade_allowed(x, action) {
                return answer_filtered(x, down, Some(&selected), Reply::upgrade_refused().closing()).await;
            }
            match forward::forward(x, down, &selected, action).await {
                // The route's changes are made to what the proxy answers in an upstream's place, too.
                Err(Failed::Reply(reply)) => answer_routed(x, down, &selected, *reply).await,
                ended => ended,
            }
        }
        RouteAction::Redirect(redirect) => {
            let location = tulle_route::rewrite::redirect_location(redirect, selected.route, &x.heads.request);
            answer_routed(x, down, &selected, Reply::redirect(redirect.status, location)).await
        }
        RouteAction::Direct(direct) => {
            let mut reply = Reply::direct(direct);
            if matches!(direct.status, 201 | 300..400) {
                reply.location = Some(tulle_route::rewrite::own_location(&x.heads.request));
            }
            answer_routed(x, down, &selected, reply).await
        }
        // To Envoy it is a route to a cluster without a name.
        RouteAction::NonForwarding => Err(Reply::no_cluster(503).into()),
    }
}

/// Finds the route, by the request and by what filters found out of it.
fn route<'r>(x: &mut Exchange<'_>, routes: &'r RouteConfig) -> Option<Selected<'r>> {
    let request = x.client.described(&x.heads.request, x.record.metadata.as_deref());
    let selected = select(routes, &request, x.worker.random());
    x.record.route = selected.as_ref().map(|selected| selected.route.name.clone());
    selected
}

/// The answer to a request that no route takes.
fn missed(routes: &RouteConfig, request: &RequestHead) -> Reply {
    if wants_tls(routes, request) { https_redirect(request) } else { Reply::no_route() }
}

fn https_redirect(request: &RequestHead) -> Reply {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Reply::redirect(301, format!("https://{}{}", text(request.authority()), text(request.path())))
}

/// Starts a span context where the connection manager traces; otherwise what the client sent passes unchanged.
fn trace(x: &mut Exchange<'_>) {
    use tulle_telemetry::TraceContext;
    use tulle_telemetry::trace::{Format, Sampling};
    let Some(tracing) = &x.hcm.tracing else { return };
    let mut rng = x.worker.rng.borrow_mut();
    let context = match TraceContext::extract(&x.heads.request.headers) {
        Some(parent) => parent.child(&mut rng),
        None => {
            // What is malformed is not passed on beside a good one.
            x.heads.request.headers.remove_where(|known, name, _| known == Known::Other && TraceContext::names(name));
            let share = tracing.random_sampling.min(tracing.overall_sampling);
            let sampled = rng.unit() * 100.0 < share;
            let sampling = if sampled { Sampling::Record } else { Sampling::Skip };
            TraceContext::fresh(Format::B3Multi, sampling, &mut rng)
        }
    };
    context.inject(&mut x.heads.request.headers);
    x.record.trace = Some(context);
}

/// Whether the route, or else the connection manager, lets the request become a tunnel, where it asks for one.
fn upgrade_allowed(x: &Exchange<'_>, action: &tulle_route::Forward) -> bool {
    let wanted: &[u8] = match x.heads.request.tunnel {
        Tunnel::No => return true,
        Tunnel::Connect => b"connect",
        Tunnel::WebSocket | Tunnel::Other => x.heads.request.headers.known(Known::Upgrade).unwrap_or_default(),
    };
    let same = |kind: &str| kind.as_bytes().eq_ignore_ascii_case(wanted);
    let by_route = action.upgrades.iter().find(|u| same(&u.kind)).map(|u| u.enabled);
    let by_manager = x.hcm.upgrades.iter().find(|u| same(&u.protocol)).is_some_and(|u| u.enabled);
    by_route.unwrap_or(by_manager)
}

/// Answers with the route's response mutations applied, as Envoy does for direct responses and redirects.
async fn answer_routed(
    x: &mut Exchange<'_>,
    down: &mut Side,
    selected: &Selected<'_>,
    mut reply: Reply,
) -> Result<Ending, Failed> {
    write_answer(x, Some(selected), &mut reply);
    Ok(send_answer(x, down, reply).await)
}

fn write_answer(x: &mut Exchange<'_>, selected: Option<&Selected<'_>>, reply: &mut Reply) {
    let hcm = x.hcm;
    if let Some(config) = &hcm.local_reply {
        return local_reply::write(x, config, selected, reply);
    }
    // What formats may ask about.
    x.record.flags.insert(reply.flags);
    x.record.details = reply.details.clone();
    reply.write_head(&x.heads.request, &mut x.heads.response);
    if let Some(selected) = selected {
        mutate_response(x, selected);
        reply.insist(&x.heads.request, &mut x.heads.response);
    }
}

/// Answers for a filter. The cluster that the request would have gone to is named in logs and metrics, as Envoy does.
async fn answer_filtered(
    x: &mut Exchange<'_>,
    down: &mut Side,
    selected: Option<&Selected<'_>>,
    reply: Reply,
) -> Result<Ending, Failed> {
    let forwarding = selected.filter(|selected| matches!(selected.action(), RouteAction::Forward(_)));
    let Some(selected) = forwarding else { return Err(reply.into()) };
    if let Some(target) = selected.cluster(&x.heads.request).and_then(|name| x.worker.target(name)) {
        x.record.cluster = Some(target.upstream.config_ref().name.clone());
        x.record.kept_back_from = Some(target);
    }
    answer_routed(x, down, selected, reply).await
}

/// Applies the response mutations of the route's levels.
pub fn mutate_response(x: &mut Exchange<'_>, selected: &Selected<'_>) {
    let heads = &mut *x.heads;
    for edits in selected.levels().map(|level| level.response()) {
        edits.remove(&mut heads.response.headers);
        let response = Some(&heads.response);
        let view = View::new(x.client, &heads.request, response, &x.record);
        edits.render(&view, &heads.response.headers, &mut heads.scratch);
        edits.write(&mut heads.response.headers, &heads.scratch);
    }
}

async fn answer(x: &mut Exchange<'_>, down: &mut Side, mut reply: Reply) -> Ending {
    write_answer(x, None, &mut reply);
    send_answer(x, down, reply).await
}

async fn send_answer(x: &mut Exchange<'_>, down: &mut Side, reply: Reply) -> Ending {
    x.record.flags.insert(reply.flags);
    x.record.details = reply.details;
    let unread = !down.read_ended();
    let fate = if reply.close || unread { Fate::Close } else { response_fate(x) };
    complete_response_head(x);
    let has_body = x.heads.response.framing != Framing::None && !reply.body.is_empty();
    x.record.status = x.heads.response.status;
    x.record.grpc_status = x.heads.response.headers.known(Known::GrpcStatus).and_then(number);
    x.record.mark(TimePoint::DownstreamTxStart, x.worker.now());
    let mut sent = down.respond(&x.heads.response, fate);
    if sent.is_ok() && has_body {
        x.record.response_bytes = reply.body.len() as u64;
        sent = down.write(bytes::Bytes::from(reply.body.into_owned()), true);
    }
    let flushed = match sent {
        Ok(()) => flush_answer(x, down).await,
        Err(e) => Err(e),
    };
    if flushed.is_err() {
        x.record.flags.insert(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
        return Ending::Close;
    }
    x.record.mark(TimePoint::DownstreamTxEnd, x.worker.now());
    // On h2 an unread body needs nothing: dropping the stream tells the client to stop (RFC 9113 §8.1).
    if fate == Fate::Close { Ending::Close } else { Ending::Keep }
}

/// Sends an answer to its end; a client that takes none of it for as long as a stream may be idle is given up.
async fn flush_answer(x: &mut Exchange<'_>, down: &mut Side) -> Result<(), Broken> {
    let mut due = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(flushed) = down.poll_flush(cx) {
            return Poll::Ready(flushed);
        }
        due = due.or_else(|| x.hcm.timeouts.stream_idle.map(|limit| Instant::now() + limit));
        x.alarm.poll(cx, due).map(|()| Err(Broken::Closed))
    })
    .await
}

/// A number in a header's value.
pub fn number(value: &[u8]) -> Option<u16> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// How an h1 connection goes on after this response.
pub fn response_fate(x: &Exchange<'_>) -> Fate {
    let request = &x.heads.request;
    if request.close || x.last == LastOnConnection::Yes || x.worker.drain.is_draining() || overload_ends(x) {
        Fate::Close
    } else if request.version == Version::Http10 {
        Fate::KeepAlive
    } else {
        Fate::Keep
    }
}

/// Whether the connection ends because there is too much to do.
fn overload_ends(x: &Exchange<'_>) -> bool {
    let ends = x.worker.overload.as_ref().is_some_and(|overload| {
        overload.ends_connection(|| x.worker.random()) || overload.sheds(ShedPoint::Http2, || x.worker.random())
    });
    if ends {
        x.worker.metrics.sheet.inc(x.client.http.downstream_cx_overload_disable_keepalive);
    }
    ends
}

/// The fields that every response gets: `server`, `date`, and the request's id where that is asked for.
pub fn complete_response_head(x: &mut Exchange<'_>) {
    mutations::end(x);
    let heads = &mut *x.heads;
    match &x.hcm.server {
        ServerHeader::Overwrite(name) => heads.response.headers.set(b"server", name.as_bytes()),
        ServerHeader::AppendIfAbsent(name) if !heads.response.headers.has(Known::Server) => {
            heads.response.headers.push(b"server", name.as_bytes());
        }
        ServerHeader::AppendIfAbsent(_) | ServerHeader::PassThrough => {}
    }
    if let Some(via) = &x.hcm.forwarding.via {
        heads.response.headers.append_by(b", ", b"via", via.as_bytes());
    }
    if !heads.response.headers.has(Known::Date) {
        heads.response.headers.push(b"date", &x.worker.clock.date());
    }
    let forced = heads.request.headers.has(Known::Internal) && heads.request.headers.contains(b"x-envoy-force-trace");
    if (x.hcm.request_id.always_set_in_response || forced)
        && let Some(id) = heads.request.headers.known(Known::XRequestId)
    {
        heads.response.headers.set(b"x-request-id", id);
    }
    filters::edit_response(x);
    x.record.response_head_bytes = x.heads.response.headers.byte_size() as u64;
}
