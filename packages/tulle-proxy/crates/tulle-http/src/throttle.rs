//! Lets a body pass no faster than at a given rate, in slices as Envoy's `StreamRateLimiter` does.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::body::Piece;

/// Bytes are let through so often; what a slice did not use is kept for a second.
const SLICES: u32 = 16;

/// The state of one body.
pub struct Throttle {
    allow: Allow,
    /// After so long more may pass.
    pause: Duration,
    sleep: Pin<Box<Sleep>>,
    /// What may not pass yet.
    held: Option<Piece>,
    timing: Rc<Cell<Timing>>,
}

/// Takes as many bytes as may pass of those that are wanted.
pub type Allow = Box<dyn FnMut(u64) -> u64>;

/// How a body has passed so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// When its first bytes came.
    pub began: Option<Instant>,
    /// When its last ones passed.
    pub last: Option<Instant>,
    /// For how long something was held back.
    pub held: Duration,
    held_since: Option<Instant>,
}

impl Throttle {
    /// One slice may pass at once.
    pub fn new(bytes_per_second: u64) -> Throttle {
        let slice = (bytes_per_second / u64::from(SLICES)).max(1);
        let mut own = Own { slice, allowed: slice, since: Instant::now() };
        Throttle::by(Box::new(move |wanted| own.take(wanted, Instant::now())), interval())
    }

    /// By what others use too.
    pub fn by(allow: Allow, pause: Duration) -> Throttle {
        let sleep = Box::pin(tokio::time::sleep_until(Instant::now()));
        Throttle { allow, pause, sleep, held: None, timing: Rc::default() }
    }

    /// Tells how the body has passed, also when this has gone.
    pub fn timing(&self) -> Rc<Cell<Timing>> {
        self.timing.clone()
    }

    /// What is still held back from the pieces given so far.
    pub fn take_held(&mut self) -> Option<Piece> {
        self.held.take()
    }

    /// The part of `piece` that may pass, once there is any. The rest is held back, and given again by `take_held`.
    pub fn poll(&mut self, cx: &mut Context<'_>, piece: Piece) -> Poll<Piece> {
        let Piece::Data { mut data, last } = piece else { return Poll::Ready(piece) };
        if data.is_empty() {
            return Poll::Ready(Piece::Data { data, last });
        }
        let length = usize::try_from((self.allow)(data.len() as u64)).unwrap_or(usize::MAX).min(data.len());
        self.note(length);
        if length == 0 {
            self.held = Some(Piece::Data { data, last });
            self.sleep.as_mut().reset(Instant::now() + self.pause);
            ready!(self.sleep.as_mut().poll(cx));
            // The clock may have moved on since it was read: look again at once.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if length == data.len() {
            return Poll::Ready(Piece::Data { data, last });
        }
        let part = data.split_to(length);
        self.held = Some(Piece::Data { data, last });
        Poll::Ready(Piece::Data { data: part, last: false })
    }

    fn note(&self, passed: usize) {
        let now = Instant::now();
        let mut timing = self.timing.get();
        timing.began.get_or_insert(now);
        if passed == 0 {
            timing.held_since.get_or_insert(now);
        } else {
            timing.last = Some(now);
            timing.held += timing.held_since.take().map_or(Duration::ZERO, |since| now - since);
        }
        self.timing.set(timing);
    }
}

/// What a body has for itself alone.
struct Own {
    /// Bytes of one slice; at least one.
    slice: u64,
    /// Bytes that may pass now.
    allowed: u64,
    /// When the last slice was added.
    since: Instant,
}

impl Own {
    fn take(&mut self, wanted: u64, now: Instant) -> u64 {
        let slices = (now - self.since).as_nanos() / interval().as_nanos();
        if slices > 0 {
            let slices = u32::try_from(slices).unwrap_or(u32::MAX);
            self.since += interval() * slices;
            self.allowed = (self.allowed + self.slice * u64::from(slices)).min(self.slice * u64::from(SLICES));
        }
        let taken = self.allowed.min(wanted);
        self.allowed -= taken;
        taken
    }
}

fn interval() -> Duration {
    Duration::from_secs(1) / SLICES
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// When each part passed, in slices since the beginning, and how long it was.
    async fn parts(rate: u64, length: usize) -> Vec<(u128, usize)> {
        let begin = Instant::now();
        let mut throttle = Throttle::new(rate);
        let mut next = Some(Piece::Data { data: Bytes::from(vec![0; length]), last: true });
        let mut seen = Vec::new();
        while let Some(piece) = next {
            let mut waiting = Some(piece);
            let part = std::future::poll_fn(|cx| {
                let piece = waiting.take().or_else(|| throttle.take_held()).expect("a piece is waiting");
                throttle.poll(cx, piece)
            })
            .await;
            let Piece::Data { data, last } = part else { panic!("not data") };
            seen.push((begin.elapsed().as_nanos() / interval().as_nanos(), data.len()));
            next = throttle.take_held();
            assert_eq!(last, next.is_none());
        }
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_passes_slice_by_slice() {
        assert_eq!(parts(160, 35).await, [(0, 10), (1, 10), (2, 10), (3, 5)]);
        assert_eq!(parts(1 << 20, 100).await, [(0, 100)]);
        assert_eq!(parts(1, 2).await, [(0, 1), (1, 1)], "never nothing at all");
    }
}
