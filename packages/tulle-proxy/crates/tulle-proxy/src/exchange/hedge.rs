//! Hedged requests (`hedge_on_per_try_timeout`): a try whose time is up is left running while another host is asked, and
//! the first good answer of any of them counts.

use std::rc::Rc;
use std::task::{Context, Poll};

use tulle_balance::Host;
use tulle_http::{Expect, Interim, ResponseHead, Side};
use tulle_policy::{ResetReason, RetryPolicy, RetryState};
use tulle_route::{Forward, Selected};

use super::attempt::{self, Answered, Reset, Tried};
use super::forward::Plan;
use super::reply::Reply;
use super::tries::{Retrying, outcome, reply_to, report, response_outcome};
use super::upload::Upload;
use super::{Exchange, Failed, deliver};

/// A try that was left running.
pub struct Waiting<'c> {
    host: Rc<Host>,
    late: Answered,
    head: ResponseHead,
    /// What makes an answer a bad one.
    retry: Option<(&'c RetryPolicy, RetryState)>,
}

/// What runs beside the tries that were left running.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    AnotherTry,
    Nothing,
}

/// Whether a trusted caller, or else the route or its virtual host, wants tries to run beside each other.
pub fn wanted(x: &Exchange<'_>, selected: &Selected<'_>, action: &Forward) -> bool {
    match x.heads.request.headers.get(b"x-envoy-hedge-on-per-try-timeout") {
        Some(b"true") => true,
        Some(b"false") => false,
        _ => action.hedged.or(selected.host.hedged).unwrap_or(false),
    }
}

/// Leaves a try running.
pub fn leave<'c>(plan: &mut Plan<'c>, (host, late): (&Rc<Host>, Answered), retrying: &Retrying<'c>) {
    let waiting = Waiting { host: host.clone(), late, head: ResponseHead::default(), retry: retrying.clone() };
    plan.waiting.push(waiting);
}

/// Ready with the place of a try that has a good answer. Those that end otherwise are forgotten: another runs.
#[inline]
pub fn poll(cx: &mut Context<'_>, x: &Exchange<'_>, plan: &mut Plan<'_>) -> Poll<usize> {
    if plan.waiting.is_empty() {
        return Poll::Pending;
    }
    match first(cx, x, plan, Beside::AnotherTry) {
        Poll::Ready(Ok(at)) => Poll::Ready(at),
        Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
    }
}

/// The place of a try with a good answer; when nothing else runs, of the last one with any, or why that has none.
fn first(
    cx: &mut Context<'_>,
    x: &Exchange<'_>,
    plan: &mut Plan<'_>,
    beside: Beside,
) -> Poll<Result<usize, ResetReason>> {
    let limits = attempt::response_limits(&plan.target.upstream.config_ref());
    let expect = Expect { limits: &limits, to: attempt::to(x), interim: Interim::Drop };
    let mut at = 0;
    while at < plan.waiting.len() {
        let last = beside == Beside::Nothing && plan.waiting.len() == 1;
        let waiting = &mut plan.waiting[at];
        match waiting.late.up.poll_response(cx, expect, &mut waiting.head) {
            Poll::Pending => at += 1,
            Poll::Ready(Ok(())) if last || waiting.is_good(x) => return Poll::Ready(Ok(at)),
            Poll::Ready(Err(none)) if last => return Poll::Ready(Err(attempt::no_head_reason(&none))),
            Poll::Ready(_) => drop(plan.waiting.swap_remove(at)),
        }
    }
    Poll::Pending
}

impl Waiting<'_> {
    fn is_good(&self, x: &Exchange<'_>) -> bool {
        let Some((policy, state)) = &self.retry else { return true };
        !state.retriable(policy, &response_outcome(&self.head, (policy, state), x.worker.clock.wall()))
    }
}

/// The answer of the try at this place; the others are given up.
pub fn take(x: &mut Exchange<'_>, plan: &mut Plan<'_>, at: usize) -> Answered {
    let Waiting { host, late, head, .. } = plan.waiting.swap_remove(at);
    plan.waiting.clear();
    x.heads.response = head;
    report(x, plan, &host, &Tried::Overtaken(at));
    x.record.host = Some(host);
    late
}

/// No try follows: the last result counts when it is a good answer or when nothing else runs; else what runs is waited for.
pub async fn last<'c>(
    (x, plan, down): (&mut Exchange<'_>, &mut Plan<'c>, &mut Side),
    (result, host): (Tried, &Rc<Host>),
    retrying: &Retrying<'c>,
    upload: &Upload,
) -> Result<Answered, Failed> {
    let bad =
        retrying.as_ref().is_some_and(|(policy, state)| state.retriable(policy, &outcome(x, &result, (policy, state))));
    match result {
        Tried::Answered(answered) if !bad || plan.waiting.is_empty() => return Ok(answered),
        Tried::Reset(reset) if plan.waiting.is_empty() => return Err(reply_to(x, plan, reset).into()),
        Tried::Answered(answered) => deliver::discard(x, answered, upload),
        Tried::Late(late) => leave(plan, (host, late), retrying),
        Tried::Reset(_) | Tried::Overtaken(_) => {}
    }
    match wait(x, plan, down).await? {
        Ok(at) => Ok(take(x, plan, at)),
        Err(reason) => Err(reply_to(x, plan, Reset::after_sending(reason)).into()),
    }
}

/// Waits for the tries that are left, unless the client leaves or the time is up.
async fn wait(
    x: &mut Exchange<'_>,
    plan: &mut Plan<'_>,
    down: &mut Side,
) -> Result<Result<usize, ResetReason>, Failed> {
    plan.try_ends = None;
    let deadline = plan.due();
    let waited = std::future::poll_fn(|cx| {
        if let Poll::Ready(found) = first(cx, x, plan, Beside::Nothing) {
            return Poll::Ready(Ok(found));
        }
        if x.alarm.poll(cx, deadline).is_ready() {
            let reply = if plan.has_ended() { Reply::stream_ended(true) } else { Reply::request_timeout() };
            return Poll::Ready(Err(Some(reply)));
        }
        if down.read_ended() && down.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(None));
        }
        Poll::Pending
    })
    .await;
    waited.map_err(|reply| match reply {
        Some(reply) => reply.into(),
        None => attempt::client_left(x, down),
    })
}
