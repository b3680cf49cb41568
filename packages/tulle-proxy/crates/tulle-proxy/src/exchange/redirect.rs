//! Following an upstream's redirect: the request, changed as the redirect says, begins anew on another route.

use tulle_http::Framing;
use tulle_route::redirects::{Followed, InternalRedirects, Location, Step};
use tulle_route::select;

use super::forward::Plan;
use super::record::Record;
use super::upload::Upload;
use super::{Exchange, finish, prepare};

/// Whether the answer is a redirect that is followed; the head is then the next request's. As in Envoy only a request
/// that has come in full is sent elsewhere, and any doubt about the redirect leaves it to the client.
pub fn follow(x: &mut Exchange<'_>, plan: &Plan<'_>, upload: &Upload) -> bool {
    let Some(policy) = &plan.action.internal_redirects else { return false };
    let status = x.heads.response.status;
    if !policy.statuses.contains(&status) || !upload.read_all() || !upload.can_repeat() {
        return false;
    }
    let location = x.heads.response.headers.get(b"location").map(<[u8]>::to_vec).unwrap_or_default();
    let Some(location) = std::str::from_utf8(&location).ok().and_then(Location::parse) else { return false };
    let mut followed = x.record.followed.take().unwrap_or_default();
    let was_secure = x.heads.request.secure_scheme;
    let accepted = policy.allows(&followed, was_secure, location.is_secure)
        && leads_on(x, plan, policy, (&location, &mut *followed));
    followed.count += u32::from(accepted);
    x.record.followed = Some(followed);
    if accepted {
        x.record.status = status;
    }
    accepted
}

/// Changes the head as the redirect says; where no route takes it, or a predicate refuses, it stays as it was.
fn leads_on(
    x: &mut Exchange<'_>,
    plan: &Plan<'_>,
    policy: &InternalRedirects,
    (location, followed): (&Location<'_>, &mut Followed),
) -> bool {
    let random = x.worker.random();
    let heads = &mut *x.heads;
    heads.before.copy_from(&heads.request);
    let was_secure = heads.request.secure_scheme;
    for name in &policy.copy {
        heads.request.headers.remove(name.as_bytes());
        for value in heads.response.headers.values(name.as_bytes()) {
            heads.request.headers.push(name.as_bytes(), value);
        }
    }
    heads.request.secure_scheme = location.is_secure;
    heads.request.set_authority(location.authority.as_bytes());
    heads.request.set_path(location.path().as_bytes());
    if prepare::path(x.hcm, &mut heads.request).is_err() {
        heads.request.copy_from(&heads.before);
        return false;
    }
    let described = x.client.described(&heads.request, x.record.metadata.as_deref());
    let next = select(plan.selected.config, &described, random).filter(|next| {
        let (from, to) = (&plan.selected.route.name, &next.route.name);
        policy.accepts(followed, &Step { from, to, was_secure, is_secure: location.is_secure })
    });
    let Some(next) = next else {
        heads.request.copy_from(&heads.before);
        return false;
    };
    // The line that is logged of what has been done so far names what follows, as in Envoy.
    x.record.route = Some(next.route.name.clone());
    x.record.cluster = next.cluster(&heads.request).map(Into::into);
    // RFC 9110 §15.4.4: what is seen elsewhere is asked for without the body.
    if heads.response.status == 303 && !matches!(heads.request.method(), b"GET" | b"HEAD") {
        heads.request.set_method(b"GET");
        heads.request.headers.remove(b"content-length");
        heads.request.framing = Framing::None;
    }
    let scheme: &[u8] = if was_secure { b"https://" } else { b"http://" };
    let url = [scheme, heads.before.authority(), heads.before.path()].concat();
    heads.request.headers.set(b"x-envoy-original-url", &url);
    true
}

/// The body, to be sent again; nothing of it where the next request has none.
pub fn body(x: &Exchange<'_>, mut upload: Upload) -> Upload {
    if x.heads.request.framing == Framing::None {
        return upload.emptied();
    }
    upload.rewind();
    upload
}

/// Writes down what has been done, as of a request of its own, and begins a new record.
pub fn begin_again(x: &mut Exchange<'_>) {
    finish::finish(x);
    let mut fresh = Record::new(x.worker.now(), x.worker.clock.wall());
    fresh.followed = x.record.followed.take();
    fresh.trace = x.record.trace.take();
    fresh.remote = x.record.remote;
    fresh.grpc = x.record.grpc;
    fresh.request_head_bytes = x.record.request_head_bytes;
    x.record = fresh;
}
