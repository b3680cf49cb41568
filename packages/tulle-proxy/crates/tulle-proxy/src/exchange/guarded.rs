//! Tulle's own extensions in an exchange: circuits with their fallbacks, deadlines that travel, last good answers.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use tulle_config::own::Fallback;
use tulle_core::ResponseFlags;
use tulle_http::{BodyCopy, Known, Tunnel};
use tulle_policy::circuit::Ended;
use tulle_policy::{Timeouts, deadline};

use super::forward::Plan;
use super::reply::Reply;
use super::{Exchange, Failed};
use crate::worker::Target;
use crate::worker::guard::{Answer, Passed};

/// Tells where an answer comes from that the request's own destination did not give.
const MARK: &[u8] = b"x-tulle-fallback";
/// What is kept of a good answer's head.
const KEPT: [&[u8]; 5] = [b"content-type", b"content-encoding", b"content-language", b"etag", b"last-modified"];

/// What an open circuit means for a request.
pub enum Entry {
    /// Send it; the destination has no extensions, or lets it pass.
    Go(Option<Passed>),
    /// Send it there instead.
    Elsewhere(Rc<Target>),
    Answer(Reply),
}

/// Asks the destination's circuit.
#[inline]
pub fn enter(x: &Exchange<'_>, target: &Target) -> Entry {
    let Some(guard) = target.guard() else { return Entry::Go(None) };
    let now = x.worker.now();
    match (guard.admit(now), guard.guarded()) {
        (Some(passed), _) => Entry::Go(Some(passed)),
        (None, None) => Entry::Go(None),
        (None, Some(guarded)) => match &guarded.fallback {
            Fallback::Refuse => Entry::Answer(refused()),
            Fallback::Answer { status, content_type, body } => {
                Entry::Answer(fixed(*status, content_type.as_bytes(), body.as_bytes()))
            }
            Fallback::LastGood { max_age, .. } => {
                let known = key(x).and_then(|key| guard.answer(&key, *max_age, now));
                Entry::Answer(known.map_or_else(refused, again))
            }
            Fallback::Cluster(name) => match x.worker.target(name) {
                Some(other) => Entry::Elsewhere(other),
                None => Entry::Answer(refused()),
            },
        },
    }
}

fn refused() -> Reply {
    let flags = ResponseFlags::UPSTREAM_OVERFLOW;
    Reply { overloaded: true, ..Reply::new(503, "circuit is open", "circuit_open", flags) }
}

fn fixed(status: u16, content_type: &[u8], body: &[u8]) -> Reply {
    let reply = Reply::new(status, "", "circuit_open_fallback", ResponseFlags::UPSTREAM_OVERFLOW);
    let headers = vec![(b"content-type".to_vec(), content_type.to_vec()), (MARK.to_vec(), b"answer".to_vec())];
    Reply { body: Cow::Owned(body.to_vec()), headers, ..reply }
}

fn again(answer: Answer) -> Reply {
    let reply = Reply::new(answer.status, "", "circuit_open_last_good", ResponseFlags::UPSTREAM_OVERFLOW);
    let mut headers = answer.headers;
    headers.push((MARK.to_vec(), b"last-good".to_vec()));
    Reply { body: Cow::Owned(answer.body), headers, ..reply }
}

/// What last good answers are kept by; `None` for requests whose answer may differ from caller to caller.
fn key(x: &Exchange<'_>) -> Option<Vec<u8>> {
    let request = &x.heads.request;
    let personal = [&b"authorization"[..], b"cookie", b"range"].iter().any(|name| request.headers.contains(name));
    if request.method() != b"GET" || request.tunnel != Tunnel::No || x.record.grpc || personal {
        return None;
    }
    let mut key = request.authority().to_vec();
    key.extend_from_slice(request.path());
    Some(key)
}

/// Where a request's answer will be kept, if its destination keeps any.
pub struct Keeping {
    key: Vec<u8>,
    max_body: usize,
}

/// Decides before the head is changed whether the answer is to be kept.
pub fn keeping(x: &Exchange<'_>, passed: Option<&Passed>) -> Option<Box<Keeping>> {
    let Fallback::LastGood { max_body, .. } = passed?.guard().guarded()?.fallback else { return None };
    Some(Box::new(Keeping { key: key(x)?, max_body }))
}

impl Keeping {
    /// Room for the body of an answer that may be given to anybody; `None` for one that may not.
    pub fn copy(&self, x: &Exchange<'_>) -> Option<BodyCopy> {
        let headers = &x.heads.response.headers;
        let control = headers.get(b"cache-control").unwrap_or_default().to_ascii_lowercase();
        let says = |word: &[u8]| control.windows(word.len()).any(|part| part == word);
        let personal = headers.contains(b"set-cookie") || headers.contains(b"vary");
        let fit = x.heads.response.status == 200 && !personal && !says(b"private") && !says(b"no-store");
        fit.then(|| BodyCopy::up_to(self.max_body))
    }

    /// Keeps the answer that has been delivered in full.
    pub fn keep(self, x: &Exchange<'_>, target: &Target, copy: BodyCopy) {
        let (Some(body), Some(guard)) = (copy.whole(), target.guard()) else { return };
        let headers = &x.heads.response.headers;
        let kept = KEPT.iter().filter_map(|name| Some((name.to_vec(), headers.get(name)?.to_vec())));
        let answer = Answer { status: x.heads.response.status, headers: kept.collect(), body, at: x.worker.now() };
        guard.keep(self.key, answer);
    }
}

/// Tells the circuit how the request's attempts ended.
pub fn leave<T>(x: &Exchange<'_>, passed: &mut Option<Passed>, result: &Result<T, Failed>) {
    let Some(passed) = passed else { return };
    let ended = match result {
        Ok(_) => {
            // Of gRPC statuses those that stand for a 5xx; DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE.
            let grpc = x.heads.response.headers.known(Known::GrpcStatus).and_then(super::number);
            let bad = x.heads.response.status >= 500 || matches!(grpc, Some(4 | 8 | 13 | 14));
            if bad { Ended::Badly } else { Ended::Well }
        }
        Err(Failed::Reply(reply)) if reply.status >= 500 => Ended::Badly,
        Err(_) => Ended::Unknown,
    };
    passed.ended(ended, x.worker.now());
}

/// A deadline that holds for a request.
#[derive(Clone, Copy)]
pub struct Due {
    at: Instant,
    /// The caller told it; else it is the route's timeout, which is told on only.
    told: bool,
}

impl Due {
    /// The moment after which nobody waits for the answer.
    pub fn end(self) -> Option<Instant> {
        self.told.then_some(self.at)
    }
}

/// The request's deadline, where its destination has them.
///
/// # Errors
/// When too little time is left for the request to be worth sending.
pub fn due(x: &Exchange<'_>, target: &Target, timeouts: &Timeouts) -> Result<Option<Due>, Reply> {
    let Some(guard) = target.guard() else { return Ok(None) };
    let Some(config) = guard.deadline() else { return Ok(None) };
    let told = deadline::remaining(&x.heads.request.headers);
    let Some(mut left) = told.or(timeouts.request) else { return Ok(None) };
    if told.is_some() {
        left = left.saturating_sub(x.worker.now() - x.record.start);
        if left.is_zero() || left < config.minimum {
            return Err(exceeded());
        }
    }
    Ok(Some(Due { at: Instant::now() + left, told: told.is_some() }))
}

/// Tells the next hop what is left, before each attempt.
///
/// # Errors
/// When nothing is.
pub fn tell(x: &mut Exchange<'_>, plan: &Plan<'_>) -> Result<(), Reply> {
    let Some(due) = plan.due_by else { return Ok(()) };
    let left = due.at.saturating_duration_since(Instant::now());
    if left < Duration::from_millis(1) && due.told {
        return Err(exceeded());
    }
    deadline::tell(&mut x.heads.request.headers, left);
    Ok(())
}

fn exceeded() -> Reply {
    let reply = Reply::new(504, "deadline exceeded", "deadline_exceeded", ResponseFlags::DURATION_TIMEOUT);
    Reply { grpc_status: Some(4), ..reply }
}

/// Words for a stream that was ended by its deadline rather than by a limit of the proxy's own.
pub fn reword(plan: &Plan<'_>, failed: Failed) -> Failed {
    match failed {
        Failed::Reply(reply) if plan.due_by.is_some_and(|due| due.told) && reply.details == "max_duration_timeout" => {
            exceeded().into()
        }
        other => other,
    }
}
