//! Lets a body pass no faster than at a given rate, in slices as Envoy's `StreamRateLimiter` does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::body::Piece;

/// Bytes are let through so often; what a slice did not use is kept for a second.
const SLICES: u32 = 16;

/// The state of one body.
pub struct Throttle {
    /// Bytes of one slice; at least one.
    slice: u64,
    /// Bytes that may pass now.
    allowed: u64,
    /// When the last slice was added.
    since: Instant,
    sleep: Pin<Box<Sleep>>,
    /// What may not pass yet.
    held: Option<Piece>,
}

impl Throttle {
    /// One slice may pass at once.
    pub fn new(bytes_per_second: u64) -> Throttle {
        let slice = (bytes_per_second / u64::from(SLICES)).max(1);
        let now = Instant::now();
        Throttle { slice, allowed: slice, since: now, sleep: Box::pin(tokio::time::sleep_until(now)), held: None }
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
        self.refill(Instant::now());
        if self.allowed == 0 {
            self.held = Some(Piece::Data { data, last });
            self.sleep.as_mut().reset(self.since + interval());
            ready!(self.sleep.as_mut().poll(cx));
            // The clock may have moved on since it was read: look again at once.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = usize::try_from(self.allowed).unwrap_or(usize::MAX).min(data.len());
        self.allowed -= length as u64;
        if length == data.len() {
            return Poll::Ready(Piece::Data { data, last });
        }
        let part = data.split_to(length);
        self.held = Some(Piece::Data { data, last });
        Poll::Ready(Piece::Data { data: part, last: false })
    }

    fn refill(&mut self, now: Instant) {
        let slices = (now - self.since).as_nanos() / interval().as_nanos();
        if slices > 0 {
            let slices = u32::try_from(slices).unwrap_or(u32::MAX);
            self.since += interval() * slices;
            self.allowed = (self.allowed + self.slice * u64::from(slices)).min(self.slice * u64::from(SLICES));
        }
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
